"""Removing the large files that nothing needs any more, as `Session.remove_files` declares them."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence

from scripts.engine import locks, outputs, publish, removed
from scripts.engine.removed import Removal
from scripts.engine.session import Session
from scripts.engine.step import Step, in_order


def make_room(
    session: Session, removals: Iterable[Removal], settled: Container[str] | None = None, running: Iterable[str] = ()
) -> None:
    """Remove what is declared so, where everything that needs it is current and no build reads it.

    `settled` are the names of the steps that this run is done with, without which nothing is said of any: to ask for
    the status of one that is still to run would keep what it is now. None: the run is over. `running` are steps that
    may read now. What can't be removed now is left for the next run.
    """
    active = [session.steps[name] for name in running if name in session.steps]
    reading = {item for step in active for item in (step, *step.upstream)}
    for removal in removals:
        if settled is not None and not all(step.name in settled for step in removal.after):
            continue
        made = [step for step in removal.steps if os.path.lexists(step.output)]
        concerned = (*made, *removal.after)
        if settled is not None and not all(step.name in settled for step in made):
            continue
        if reading.isdisjoint(removal.steps) and all(map(session.status.is_current, concerned)):
            for step in made:
                try:
                    _remove(session, step, removal.patterns, concerned)
                except OSError as error:  # a build that can't be written can still be up to date
                    line = f"{step.name}: what nothing needs now stays there: {outputs.describe(error)}"
                    session.progress.note(line, "dim")


def _remove(session: Session, step: Step, patterns: Sequence[str], concerned: Iterable[Step]) -> None:
    """Remove files of one step's output, unless another build is at it, reads it, or changed what is concerned."""
    if not removed.goes(step, patterns):
        return
    with locks.removal(session.build, step.name) as free:
        if free and not _is_read(session, step) and _still_current(session, concerned):
            if key := outputs.recorded_key(step):
                session.store.drop(key)  # of a time when it was to be kept
            work = locks.file_of(session.build, step.name, "tmp")
            if size := removed.remove(step, patterns, session.digests, work):
                session.progress.note(f"{step.name}: {size / 1e9:.2f} GB removed, which nothing needs now", "dim")
                session.status.forget(step)


def _is_read(session: Session, step: Step) -> bool:
    """Whether a build works at a step that reads this one, or at one that is not known here and so may."""
    known = {other.name.replace(":", "."): other for other in session.steps.values()}
    at = [known.get(name) for name in publish.worked_at(session.build)]
    return any(other is None or step in other.upstream for other in at)


def _still_current(session: Session, steps: Iterable[Step]) -> bool:
    """Whether all of it is current, found out anew: another build may have come between."""
    steps = list(steps)
    for step in in_order(steps):
        session.status.forget(step)
        session.status.forget_inputs(step)
    return all(map(session.status.is_current, steps))

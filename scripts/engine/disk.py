"""Removing the large files that nothing needs any more, as `Session.remove_files` declares them."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable

from scripts.engine import locks, outputs, removed
from scripts.engine.session import Session
from scripts.engine.step import Step


def make_room(session: Session, settled: Container[str] | None = None, running: Iterable[str] = ()) -> None:
    """Remove what was declared so and everything that needs it is current.

    `settled` are the names of the steps that this run is done with, without which nothing is said of any: to ask for
    the status of one that is still to run would keep what it is now. None: the run is over. `running` are steps that
    may read now.
    """
    active = [session.steps[name] for name in running if name in session.steps]
    reading = {item for step in active for item in (step, *step.upstream)}
    for removal in session.removals:
        made = [step for step in removal.steps if os.path.lexists(step.output)]
        concerned = (*made, *removal.after)
        if settled is not None and not all(step.name in settled for step in concerned):
            continue
        if reading.isdisjoint(removal.steps) and all(map(session.status.is_current, concerned)):
            for step in made:
                _remove(session, step, removal.patterns)


def _remove(session: Session, step: Step, patterns: tuple[str, ...]) -> None:
    with locks.artifact(session.build, step.name, note=session.progress.note):
        if key := outputs.recorded_key(step):
            session.store.drop(key)  # of a time when it was to be kept
        work = locks.file_of(session.build, step.name, "tmp")
        if size := removed.remove(step, patterns, session.digests, work):
            session.progress.note(f"{step.name}: {size / 1e9:.2f} GB removed, which nothing needs now", "dim")
            session.status.forget(step)

"""Bringing one step up to date: lock, check again, restore or run the child, judge, publish; or a marker that says why
not.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from scripts.common import folders, manifest
from scripts.common.errors import IngotError
from scripts.common.os_errors import ours
from scripts.common.process import run
from scripts.common.visible import line
from scripts.engine import away, known_files, locks, outputs, publish, removed, tree
from scripts.engine.endings import Made, why_failed, why_not_an_output
from scripts.engine.environment import private_to
from scripts.engine.keys import key_of
from scripts.engine.session import Session
from scripts.engine.step import Step


class _ReplacedError(Exception):
    """What a step read was replaced by another build meanwhile; carries the reason why the step failed."""


def execute(session: Session, step: Step) -> None:
    """Bring a step up to date. A failure is a marker, not an exception: other models go on, and the report tells of it.

    Raises `StoppedBuildError` where no step can be built, or the build is being stopped.
    """
    session.busy.add(threading.get_ident())
    try:
        session.start()
        _attempt(session, step)
    finally:
        session.busy.discard(threading.get_ident())


def wait_for_running(session: Session, seconds: float) -> None:
    """Wait, not for ever, until the steps that were running in other threads have tidied up."""
    end = time.monotonic() + seconds
    while session.busy - {threading.get_ident()} and time.monotonic() < end:
        time.sleep(0.01)


def _attempt(session: Session, step: Step) -> None:
    session.status.keep_marker(step, None)
    try:
        with locks.artifact(session.build, step.name, note=session.progress.note):
            session.status.forget(step)
            session.status.forget_inputs(step)
            try:
                _bring_up_to_date(session, step)
            except (IngotError, OSError) as error:
                _mark(session, step, "failed", [str(ours(error, step.output))])
    except OSError as error:  # not even a lock can be had
        _mark(session, step, "failed", [str(ours(error, step.output))])


def _bring_up_to_date(session: Session, step: Step, *, again: bool = False) -> None:
    reasons = session.status.stopped(step, follows=step.name not in session.named)
    try:
        key = key_of(session.status.keys.ingredients(step))
    except IngotError:
        if not reasons:
            raise
        key = ""  # what is wrong with its other inputs was told by the step that it follows, or will be
    if reasons:
        return _mark(session, step, "skipped", reasons, key=key)
    outputs.settle(step)
    # Another build may have been here, or what failed before came right again: the output is of this key already.
    if not session.force_all and not session.status.by_reading(step, key).reasons:
        session.ended[step.name] = "kept"
    else:
        try:
            with publish.workspace(session.build, step.name, session.digests) as work:
                reason = _build(session, step, key, work)
        except _ReplacedError as error:
            if not again:
                session.progress.note(f"{step.name}: another build replaced what it was reading; once more")
                session.status.forget_inputs(step)
                return _bring_up_to_date(session, step, again=True)
            reason = str(error)
        if reason:
            return _mark(session, step, "failed", [reason], log=session.log_of(step))
    Path(step.marker).unlink(missing_ok=True)
    session.status.forget(step)
    session.status.of(step)  # leaves the receipt
    return None


def _build(session: Session, step: Step, key: str, work: Path) -> str | None:
    """Make and publish the output; or the reason why that failed.

    Raises `_ReplacedError` where it may have failed because another build replaced what it was reading.
    """
    started = time.monotonic()
    out, read = work / step.output.name, _outputs_of_inputs(step)
    locks.removals_ended(session.build, [upstream.name for upstream in step.upstream])
    if not session.force_all:
        for restore, what in ((_restore, "restored"), (_fetch, "fetched")):
            if (files := restore(session, step, key, work, out)) is not None:
                _publish(session, step, work, out, key, files, kept=restore is _restore)
                session.ended[step.name] = f"{what} in {time.monotonic() - started:.1f} s"
                return None
    if reason := _make_whole(session, step, read):
        return reason
    status, written = session.status, _written(session, step)
    made, files = away.build(session, step, key, out), None
    if made and made.in_store:
        session.records.take_up(key)
        if (files := _fetch(session, step, key, work, out)) is None:
            session.progress.note(f"{step.name}: the shared store does not give what a worker made; building it here")
            made = None
    made = made or _build_here(session, step, work, out)
    reason = made.reason
    status.forget_inputs(step)
    if not reason and (key_of(status.keys.ingredients(step)) != key or _written(session, step) != written):
        reason = "an input changed while it was being read; run doit again"
    if reason and _outputs_of_inputs(step) != read:
        raise _ReplacedError(reason)
    if reason:
        return reason
    _publish(session, step, work, out, key, files)
    session.records.keep_cost(step.name, made.seconds, made.peak_rss, session.limits_of(step).likely_bytes)
    session.records.take_up(key)
    session.ended[step.name] = f"built in {time.monotonic() - started:.1f} s{made.where}"
    folder = session.store.folder / key if step.storable else step.output
    if step.shareable and session.shared and session.shared.writes and folder.is_dir() and not made.in_store:
        session.progress.said(step.name, "putting it into the shared store")
        session.shared.upload(key, folder, known_files.of_user(session, step), made.seconds)
    return None


def _build_here(session: Session, step: Step, work: Path, out: Path) -> Made:
    """Run the child that makes the output."""
    note, limits = session.progress.note, session.limits_of(step)
    parameters = session.status.keys.parameters(step)
    command = [sys.executable, "-m", f"{session.package}.{step.stage}", *step.arguments(out, parameters)]
    with (
        nullcontext() if step.alone else session.room.taken(step.name, session.likely_bytes(step), note),
        locks.measurement(step.name, session.build, alone=step.alone, note=note),
        session.digests.journal(work / "links.jsonl"),
    ):
        ended = run(
            command, log=session.log_of(step), limits=limits, env=_environment(session, step, work),
            on_line=lambda line: session.progress.said(step.name, line),
        )  # fmt: skip
    reason = ended.broke or why_failed(session.build, f"{step.stage} {step.verb}", work, ended.code, out)
    return Made(reason, ended.seconds, ended.peak_rss)


def _make_whole(session: Session, step: Step, read: dict[str, int | None]) -> str | None:
    """Build again what files were removed of and this step reads; or the reason why that failed.

    `read` is brought up to date for these.
    """
    for needed in removed.needed(step):
        with locks.artifact(session.build, needed.name, note=session.progress.note):
            if not removed.absent(needed):
                continue  # another step had it built meanwhile
            session.progress.note(f"{needed.name}: built again, as {step.name} needs what was removed of it")
            session.status.forget_inputs(needed)
            key = key_of(session.status.keys.ingredients(needed))
            try:
                with publish.workspace(session.build, needed.name, session.digests) as work:
                    reason = _build(session, needed, key, work)
            except _ReplacedError as error:
                raise _ReplacedError(f"{needed.name} could not be built again: {error}") from None
            session.status.forget(needed)
            if reason:
                return f"{needed.name} could not be built again: {reason}"
            read[needed.name] = _outputs_of_inputs(step)[needed.name]
    return None


def _outputs_of_inputs(step: Step) -> dict[str, int | None]:
    """Which outputs its inputs have now, by their names: another build may replace them meanwhile."""
    found: dict[str, int | None] = {}
    for upstream in step.upstream:
        try:
            found[upstream.name] = os.stat(upstream.target).st_ino
        except OSError:
            found[upstream.name] = None
    return found


def _written(session: Session, step: Step) -> dict[str, object]:
    """When each of the user's own inputs was last written: to see one that changed and changed back meanwhile."""
    written = session.status.user_files.written
    return {name: written(str(item), step.belongs.get(flag))
            for name, flag, item, _ in step.read if not isinstance(item, Step)}  # fmt: skip


def _environment(session: Session, step: Step, work: Path) -> dict[str, str]:
    return {**session.environment(step.stage, work / "home"), **private_to(work)}


def _restore(session: Session, step: Step, key: str, work: Path, out: Path) -> manifest.Files | None:
    """Have an earlier output of this key at `out`; None where there is none."""
    if not step.storable:
        return None
    folder = work / "restored" if step.is_result else out
    files = session.store.restore(key, folder)
    if files is not None and step.is_result:
        [name] = files  # a step of the same key may call its result otherwise
        (folder / name).replace(out)
    return files


def _fetch(session: Session, step: Step, key: str, work: Path, out: Path) -> manifest.Files | None:
    """Have what somebody else built of this key at `out`; None where there is none, or it is not an output."""
    if not step.shareable or session.shared is None or session.records.is_given_up(key):
        return None
    folder = work / "fetched"
    files = session.shared.fetch(
        key, folder, known_files.of_user(session, step), known_files.of_inputs(step),
        lambda line: session.progress.said(step.name, line),
    )  # fmt: skip
    if files is None:
        return None
    made = folder / next(iter(files)) if step.is_result else folder  # whatever the other's step calls its result
    if (step.is_result and len(files) != 1) or why_not_an_output(made, step.base, "the shared store"):
        session.progress.note(f"{step.name}: what the shared store has is no {step.base}; building it")
        tree.remove(str(folder), session.digests)
        return None
    made.replace(out)
    return files


def _publish(
    session: Session, step: Step, work: Path, out: Path, key: str, files: manifest.Files | None, *,
    kept: bool = False,
) -> None:  # fmt: skip
    """Put what was made, or a store had, under its final name; unless it is `kept` already, into the store first."""
    digests, keys = session.digests, session.status.keys
    provenance: dict[str, Any] = {
        "step": step.name, "key": key, "ingredients": keys.ingredients(step), "files": keys.user_files(step),
    }  # fmt: skip
    if step.is_result:
        provenance["output"] = digests.of(str(out))
        if step.storable and not kept:
            folder = work / "stored"
            folder.mkdir()
            shutil.copyfile(out, folder / step.base)
            manifest.write(folder, manifest.scan(str(folder), digests.of), provenance)
            _store(session, step, folder, key, work)
        publish.publish_result(out, provenance, step, work / "provenance.json")
        return
    files = manifest.scan(str(out), digests.of) if files is None else files
    provenance["output"] = manifest.files_digest(files)
    manifest.write(out, files, provenance)
    folders.flush(out)  # before the store makes what it shares read-only: Windows would not flush it then
    if step.storable and not kept:
        _store(session, step, out, key, work)
    publish.publish(out, step.output, session.build)


def _store(session: Session, step: Step, folder: Path, key: str, work: Path) -> None:
    try:
        session.store.keep(folder, key, work)
    except OSError as error:  # it is there to save time: a build without it is as good
        session.progress.note(f"{step.name}: not kept in the store ({error.strerror})")


def _mark(
    session: Session, step: Step, verdict: str, reasons: list[str], *, key: str = "", log: Path | None = None
) -> None:
    if step.dispensable and verdict == "failed":
        verdict = "skipped"  # without a key, so that the next run tries it again
    reasons = [line(reason) for reason in reasons]
    where = log.relative_to(session.build).as_posix() if log else None
    marker = {"step": step.name, "verdict": verdict, "reasons": reasons, "log": where, "key": key}
    try:
        publish.publish_json(marker, Path(step.marker), locks.file_of(session.build, step.name, "tmp"))
    except OSError:  # a full disk: the rest of this run must know all the same
        session.status.keep_marker(step, marker)
    session.status.forget(step)
    session.ended[step.name] = f"{verdict}: {'; '.join(reasons)}" + (f" (log: {log})" if log else "")

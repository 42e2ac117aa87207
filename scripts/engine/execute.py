"""Bringing one step up to date: lock, look again, restore or run the child, check, publish; or a marker that says why
not.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from scripts.common.childenv import CHILD_LOCK, LINK_JOURNAL, REASON_FILE
from scripts.common.errors import IngotError
from scripts.engine import locks, manifest, publish, status
from scripts.engine.process import run
from scripts.engine.step import STOPPING, Step, flat, key_of

_NO_ROOM = 1 << 20
_busy: set[int] = set()


def execute(step: Step) -> None:
    """doit's action. A failure is a marker, not an exception: other models go on, and the report can tell of it.

    Raises `StoppedBuildError` where no step can be built, or the build is being stopped.
    """
    _busy.add(threading.get_ident())
    try:
        step.engine.start()
        _attempt(step)
    finally:
        _busy.discard(threading.get_ident())


def settle(seconds: float) -> None:
    """Wait, not for ever, until the steps that were running in other threads have tidied up."""
    end = time.monotonic() + seconds
    while _busy - {threading.get_ident()} and time.monotonic() < end:
        time.sleep(0.01)


def _attempt(step: Step) -> None:
    step.unwritten = None
    try:
        with locks.artifact(step):
            step.forget()
            step.forget_inputs()
            try:
                _bring_up_to_date(step)
            except (IngotError, OSError) as error:
                _mark(step, "failed", [_said(step, error)])
    except OSError as error:  # not even a lock can be had
        _mark(step, "failed", [_said(step, error)])


def _said(step: Step, error: IngotError | OSError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or step.output}: {error.strerror or error}"
    return str(error)


def _bring_up_to_date(step: Step, *, again: bool = False) -> None:
    key = key_of(step.ingredients())
    if reasons := _blocked(step):
        return _mark(step, "skipped", reasons, key=key)
    # Another build may have been here, or what failed before came right again: the output is of this key already.
    if not step.engine.force_all and not status.closely(step, key).reasons:
        step.last = "kept"
    else:
        stood = _standing(step)
        with publish.workspace(step.engine.build, step.name, step.engine.digests) as work:
            reason = _build(step, key, work)
        if reason and not again and _standing(step) != stood:
            step.engine.progress.note(f"{step.name}: another build replaced what it was reading; once more")
            step.forget_inputs()
            return _bring_up_to_date(step, again=True)
        if reason:
            return _mark(step, "failed", [reason], log=step.log)
    Path(step.marker).unlink(missing_ok=True)
    step.forget()
    step.look()  # leaves the receipt
    return None


def _build(step: Step, key: str, work: Path) -> str | None:
    """Make and publish the output; or the reason why that failed."""
    started = time.monotonic()
    out = work / step.output.name
    if step.storable and not step.engine.force_all and (files := _restore(step, key, work, out)) is not None:
        _publish(step, work, out, key, files, restored=True)
        step.last = f"restored in {time.monotonic() - started:.1f} s"
        return None
    written = _written(step)
    with locks.turn(step), step.engine.digests.journal(work / "links.jsonl"):
        ended = run(
            step.command(out), log=step.log, limits=step.limits, env=_environment(step, work),
            on_line=lambda line: step.engine.progress.said(step.name, line),
        )  # fmt: skip
    reason = ended.broke or _why_failed(step, work, ended.code, out)
    step.forget_inputs()
    if not reason and (key_of(step.ingredients()) != key or _written(step) != written):
        reason = "an input changed while it was being read; run doit again"
    if reason:
        return reason
    _publish(step, work, out, key, None)
    step.engine.keep_cost(step.name, ended.seconds, ended.peak_rss)
    step.last = f"built in {time.monotonic() - started:.1f} s"
    return None


def _standing(step: Step) -> list[int | None]:
    """Which of its inputs' outputs stand there: another build may replace them meanwhile."""
    found: list[int | None] = []
    for upstream in step.upstream:
        try:
            found.append(os.stat(upstream.target).st_ino)
        except OSError:
            found.append(None)
    return found


def _written(step: Step) -> dict[str, Any]:
    """When each of the user's own inputs was last written: to see one that changed and changed back meanwhile."""
    paths = [str(read.item) for read in step.read if not isinstance(read.item, Step)]
    return {
        path: [(name, status.st_ino, status.st_size, status.st_mtime_ns) for name, status in manifest.walk(path)]
        if os.path.isdir(path) else os.stat(path).st_mtime_ns
        for path in paths
    }  # fmt: skip


def _environment(step: Step, work: Path) -> dict[str, str]:
    return {
        **step.engine.environment(step.stage, work / "home"),
        REASON_FILE: str(work / "reason.json"),
        LINK_JOURNAL: str(work / "links.jsonl"),
        CHILD_LOCK: f"{work}.child.lock",
    }


def _restore(step: Step, key: str, work: Path, out: Path) -> manifest.Files | None:
    """Have an earlier output of this key at `out`; None where there is none."""
    folder = work / "restored" if step.is_result else out
    files = step.engine.store.restore(key, folder)
    if files is not None and step.is_result:
        (folder / step.base).replace(out)
    return files


def _publish(
    step: Step, work: Path, out: Path, key: str, files: manifest.Files | None, *, restored: bool = False
) -> None:
    """Put what the child made, or the store had, under its final name; what is new goes into the store first."""
    digests = step.engine.digests
    provenance: dict[str, Any] = {
        "step": step.name, "key": key, "ingredients": step.ingredients(), "files": step.user_files(),
    }  # fmt: skip
    if step.is_result:
        provenance["output"] = digests.of(str(out))
        if step.storable and not restored:
            folder = work / "stored"
            folder.mkdir()
            shutil.copyfile(out, folder / step.base)
            manifest.write(folder, manifest.scan(str(folder), digests), provenance)
            _store(step, folder, key, work)
        publish.publish_file(out, step.output)
        publish.publish_json(provenance, Path(step.provenance), work / "provenance.json")
        return
    files = manifest.scan(str(out), digests) if files is None else files
    provenance["output"] = manifest.files_digest(files)
    manifest.write(out, files, provenance)
    publish.flush(out)  # before the store makes what it shares read-only: Windows would not flush it then
    if step.storable and not restored:
        _store(step, out, key, work)
    publish.publish(out, step.output, step.engine.build)


def _store(step: Step, folder: Path, key: str, work: Path) -> None:
    try:
        step.engine.store.keep(folder, key, work)
    except OSError as error:  # it is there to save time: a build without it is as good
        step.engine.progress.note(f"{step.name}: not kept in the store ({error.strerror})")


def _blocked(step: Step) -> list[str]:
    """Why there is nothing to work on: an input that failed, was skipped or refused, or is not there."""
    needed = [item for _, item in flat(step.inputs) if isinstance(item, Step)]
    verdicts = [(item.name, item.verdict()) for item in needed]
    return [f"follows {name}: {verdict or 'not built'}" for name, verdict in verdicts if verdict in (*STOPPING, None)]


def _why_failed(step: Step, work: Path, code: int, out: Path) -> str | None:
    what = f"{step.stage} {step.verb}"
    if code == 0:
        return _why_not_an_output(step, out, what)
    try:
        return str(json.loads((work / "reason.json").read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError):
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        # Then the child had no room for its reason either, nor for its log.
        full = shutil.disk_usage(work).free < _NO_ROOM
        return f"{what} {how}; " + (f"the disk of {step.engine.build} is full" if full else "its log says more")


def _why_not_an_output(step: Step, out: Path, what: str) -> str | None:
    if not (out.is_file() if step.is_result else out.is_dir()):
        return f"{what} ended well but made no {step.output.name}"
    if step.is_result:
        try:
            fine = isinstance(json.loads(out.read_text(encoding="utf-8")), dict)
        except ValueError:
            fine = False
        return None if fine else f"{what} wrote a {step.output.name} that is no JSON object"
    return None if any(out.iterdir()) else f"{what} ended well but left {step.output.name} empty"


def _mark(step: Step, verdict: str, reasons: list[str], *, key: str = "", log: Path | None = None) -> None:
    where = log.relative_to(step.engine.build).as_posix() if log else None
    marker = {"step": step.name, "verdict": verdict, "reasons": reasons, "log": where, "key": key}
    try:
        publish.publish_json(marker, Path(step.marker), locks.file_of(step, "tmp"))
    except OSError:  # a full disk: the rest of this run must know all the same
        step.unwritten = marker
    step.forget()
    step.last = f"{verdict}: {'; '.join(reasons)}" + (f" (log: {log})" if log else "")
    if verdict == "failed":
        step.engine.failed.append(step.name)

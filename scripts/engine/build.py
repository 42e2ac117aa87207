"""Bringing one step up to date: lock, look again, run the child, check, publish; or a marker that says why not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scripts.engine import manifest, publish
from scripts.engine.childenv import CHILD_LOCK, LINK_JOURNAL, REASON_FILE
from scripts.engine.errors import IngotError
from scripts.engine.files import write_json
from scripts.engine.run import run
from scripts.engine.step import STOPPING, Step, flat, key_of


def execute(step: Step) -> None:
    """doit's action. A failure is a marker, not an exception: other models go on, and the report can tell of it."""
    step.engine.start()
    with _lock(step):
        step.forget()
        try:
            _execute(step)
        except IngotError as error:
            _mark(step, "failed", [str(error)])
        except OSError as error:
            _mark(step, "failed", [f"{error.filename or step.output}: {error.strerror or error}"])


def _execute(step: Step) -> None:
    ingredients = step.ingredients()
    key = key_of(ingredients)
    if reasons := _blocked(step):
        return _mark(step, "skipped", reasons, key=key)
    # Another build may have been here, or what failed before came right again: the output is of this key already.
    if not step.engine.force_all and not step.look_closely(key, ingredients).reasons:
        step.marker.unlink(missing_ok=True)
        step.last = "kept"
        return None
    return _build(step, key)


def _build(step: Step, key: str) -> None:
    started = time.monotonic()
    with publish.workspace(step.engine.build, step.name) as work:
        out = work / step.output.name
        with step.engine.turn(step):
            ended = run(
                step.command(out), log=step.log, limits=step.limits, env=_environment(step, work),
                on_line=lambda line: step.engine.progress.said(step.name, line),
            )  # fmt: skip
        step.engine.digests.carry_journal(work / "links.jsonl")
        reason = ended.broke or _why_failed(step, work, ended.code, out)
        for upstream in step.upstream():
            upstream.forget()
        ingredients = step.ingredients()
        if not reason and key_of(ingredients) != key:
            reason = "an input changed while it was being read; run doit again"
        if reason:
            return _mark(step, "failed", [reason], log=step.log)
        _publish(step, out, key, ingredients)
    step.engine.keep_cost(step.name, ended.seconds, ended.peak_rss)
    step.forget()
    step.last = f"built in {time.monotonic() - started:.1f} s"
    return None


def _environment(step: Step, work: Path) -> dict[str, str]:
    return {
        **step.engine.environment(step.stage),
        REASON_FILE: str(work / "reason.json"),
        LINK_JOURNAL: str(work / "links.jsonl"),
        CHILD_LOCK: f"{work}.child.lock",
    }


def _publish(step: Step, out: Path, key: str, ingredients: Mapping[str, Any]) -> None:
    provenance = {"step": step.name, "key": key, "ingredients": ingredients}
    if step.is_result:
        write_json(step.output, json.loads(out.read_text(encoding="utf-8")))
        provenance["output"] = step.engine.digests.of(str(step.output))
        write_json(step.provenance, provenance)
    else:
        manifest.write(out, manifest.scan(str(out), step.engine.digests), provenance)
        publish.publish(out, step.output, step.engine.build)
    step.marker.unlink(missing_ok=True)


def _blocked(step: Step) -> list[str]:
    """Why there is nothing to work on: an input that failed, was skipped or refused, or is not there."""
    needed = [item for _, item in flat(step.inputs) if isinstance(item, Step)]
    verdicts = [(item.name, item.verdict()) for item in needed]
    return [f"follows {name}: {verdict or 'not built'}" for name, verdict in verdicts if verdict in (*STOPPING, None)]


def _why_failed(step: Step, work: Path, code: int, out: Path) -> str | None:
    if code == 0:
        return None if out.exists() else f"{step.stage} {step.verb} ended well but made no {step.output.name}"
    try:
        return str(json.loads((work / "reason.json").read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError):
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{step.stage} {step.verb} {how}; its log says more"


def _mark(step: Step, verdict: str, reasons: list[str], *, key: str = "", log: Path | None = None) -> None:
    where = log.relative_to(step.engine.build).as_posix() if log else None
    write_json(step.marker, {"step": step.name, "verdict": verdict, "reasons": reasons, "log": where, "key": key})
    step.forget()
    step.last = f"{verdict}: {'; '.join(reasons)}" + (f" (log: {log})" if log else "")
    if verdict == "failed":
        step.engine.failed.append(step.name)


@contextlib.contextmanager
def _lock(step: Step) -> Iterator[None]:
    """Hold this artifact's lock; say so if another build holds it."""
    path = step.engine.build / ".locks" / f"{step.name.replace(':', '.')}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        step.engine.progress.note(f"{step.name}: waiting for another build that is at it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def clean(step: Step, dryrun: bool) -> None:
    """For `doit clean`: take back what the step did outside `build/`, then remove its output and notes, no more."""
    gone = [path for path in (step.output, step.provenance, step.marker, step.log) if os.path.lexists(path)]
    for path in gone:
        step.engine.progress.note(f"{step.name}: {'would remove' if dryrun else 'removed'} {path}")
    if dryrun:
        return
    if step.undo and step.output.exists():
        words = step.undo(json.loads(step.output.read_text(encoding="utf-8")))
        if words and subprocess.run([sys.executable, "-m", *words], check=False).returncode:
            raise IngotError(step.output, "what it records could not be taken back", "See above; nothing was removed")
    for path in gone:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    step.disown()
    for folder in (step.marker.parent, *step.output.parents):
        if folder in (step.engine.build, step.engine.build.parent) or any(folder.iterdir() if folder.is_dir() else "x"):
            break
        folder.rmdir()

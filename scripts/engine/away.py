"""A step as a job for a worker of a cluster: all that it reads, told so that another machine can have the same.

Outputs of other steps that are folders are named by their keys, and brought by the shared store; results travel with
the job, and so do the user's own files, unless they are large: those have to be at the same path there, with the same
content.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.common.hashes import digest_bytes
from scripts.engine import known_files, outputs
from scripts.engine.endings import Made
from scripts.engine.session import Session
from scripts.engine.shared import Shared
from scripts.engine.step import Part, Step, flat, in_order

#: The user's own files up to so many bytes, and all of them up to so many, travel with the job.
_SMALL, _MOST = 8 << 20, 32 << 20
#: Marks a word of a command line that each machine fills in for itself; no argument of a program can hold it.
MARK = "\0"


class NotForWorkersError(Exception):
    """A step can only be built here, for the reason that it carries."""


def build(session: Session, step: Step, key: str, out: Path) -> Made | None:
    """Have a worker build a step; None where there is no cluster, or it has to be built here after all."""
    cluster, store = session.cluster, session.shared
    if cluster is None or store is None or session.is_tied(step) or not (step.shareable or step.alone):
        return None
    if all(upstream.is_result for upstream in step.upstream):  # soon done where its files are
        return None
    try:
        job = job_of(session, step, key, store)
    except NotForWorkersError as error:
        session.progress.note(f"{step.name}: {error}; building it here")
        return None
    needs = {"memory": session.likely_bytes(step), **({"measure": 1} if step.alone else {}), **step.resources}
    answer = cluster.build(job, needs, lambda line: session.progress.said(step.name, line))
    if answer is None:
        return None
    _keep_log(session.log_of(step), answer.get("log", ""))
    if data := answer.get("result"):
        out.write_bytes(data)
    in_store = not step.is_result and not answer["reason"]
    return Made(answer["reason"], answer["seconds"], answer["peak_rss"], in_store, f" on {answer['worker']}")


def job_of(session: Session, step: Step, key: str, store: Shared) -> dict[str, Any]:
    """What `scripts.engine.worker.build` is given. Raises `NotForWorkersError`."""
    if any(os.path.exists(item.marker) for _, item in flat(step.verdicts)):
        raise NotForWorkersError("what it judges by stopped")
    made_of = session.status.keys.ingredients(step)
    limits = session.limits_of(step)
    brought: dict[str, dict[str, Any]] = {}

    def place(flag: str, item: Any) -> str:
        if isinstance(item, Path):
            mark = f"{MARK}{flag}{MARK}{len(brought)}"
            brought[mark] = {"scratch": flag} if flag in step.scratch else _given(session, step, flag, item)
        else:
            of = item.step if isinstance(item, Part) else item
            mark = f"{MARK}{of.name}"
            brought.setdefault(mark, _made(session, of, store))
        return mark

    words = step.arguments(MARK, made_of["parameters"], place)
    return {
        "step": step.name, "key": key, "package": session.package, "stage": step.stage, "verb": step.verb,
        "loads": step.loaded(), "words": words, "brought": brought, "name": step.base, "is_result": step.is_result,
        "sources": made_of["sources"], "tools": made_of["tools"], "observed": dict(step.observed),
        "alone": step.alone, "seconds": limits.seconds, "memory_bytes": limits.memory_bytes, "setting": limits.setting,
        "store": store.remote.url, "own": _own(session, step), "own_of_step": [*known_files.of_user(session, step)],
    }  # fmt: skip


def _made(session: Session, step: Step, store: Shared) -> dict[str, Any]:
    """The output of another step: a result as it is, an artifact by its key, put into the store if it is not there."""
    if step.is_result:
        return {"path": str(step.output), "result": step.output.read_bytes()}
    key = outputs.recorded_key(step)
    if key is None:
        raise NotForWorkersError(f"{step.name} has no key")
    if not store.has(key):
        store.upload(
            key, step.output, known_files.of_user(session, step), (session.records.cost(step.name) or (0.0,))[0]
        )
        if not store.has(key):
            raise NotForWorkersError(f"what {step.name} made is not for the shared store, or can't be put there")
    return {"path": str(step.output), "key": key}


def _given(session: Session, step: Step, flag: str, path: Path) -> dict[str, Any]:
    """A file or folder of the user's."""
    found = session.status.user_files.of(str(path), step.belongs.get(flag))
    return {"path": str(path), "files": {"": found.digest} if found.files is None else found.files}


def _own(session: Session, step: Step) -> dict[str, tuple[str, bytes | None]]:
    """Digest → path here, and content of what is small, of the user's own files that a worker may need: those that the
    step reads, and those that the artifacts which it reads link to.
    """
    found, total = dict[str, tuple[str, bytes | None]](), 0
    for digest, path in _own_paths(session, step):
        if digest not in found:
            size = os.path.getsize(path)
            data = Path(path).read_bytes() if size <= _SMALL and total + size <= _MOST else None
            if data is not None and digest_bytes(data) != digest:
                raise NotForWorkersError(f"{path} changed")
            total += len(data or b"")
            found[digest] = path, data
    return found


def _own_paths(session: Session, step: Step) -> Iterator[tuple[str, str]]:
    for other in in_order([step]):
        if other is step or not other.is_result:
            yield from known_files.of_user(session, other).items()


def _keep_log(log: Path, text: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text, encoding="utf-8")

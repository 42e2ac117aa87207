"""Who may work when: one build at an artifact, and nothing beside a measurement, across all builds of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.common.machine import temporary
from scripts.common.process import check_interrupted
from scripts.engine import publish

#: A wait is cut into pieces so long, in seconds: no signal gets through to a thread, nor into the wait itself.
_PIECE = 0.5


@contextlib.contextmanager
def measurement(step: str, *, alone: bool, note: Callable[[str], None]) -> Iterator[None]:
    """Steps that measure run alone, whatever `-n`, also across builds on this machine; others run together."""
    from filelock import ReadWriteLock, Timeout  # only when something runs

    lock = ReadWriteLock(temporary("measuring.lock"), is_singleton=False)
    take, others = (lock.acquire_write, "others to end") if alone else (lock.acquire_read, "a measurement to end")
    noted = False
    while True:
        check_interrupted()
        try:
            take(_PIECE)
            break
        except Timeout:
            if not noted:
                note(f"{step}: waiting for {others}")
            noted = True
    try:
        yield
    finally:
        lock.release()
        lock.close()


def file_of(build: Path, step: str, end: str) -> Path:
    """A file that only the holder of an artifact's lock writes; or, with `lock` as its end, that lock."""
    return build / ".locks" / f"{step.replace(':', '.')}.{end}"


@contextlib.contextmanager
def artifact(build: Path, step: str, *, note: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a step's artifact; `note` is told if another build holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(file_of(build, step, "lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(f"{step}: waiting for another build{_holder(build, step)} that is at it")
        while not lock.is_locked:
            check_interrupted()
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=_PIECE)
    try:
        yield
    finally:
        lock.release()


def _holder(build: Path, step: str) -> str:
    """The process that works on it, by the name of its work folder."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(build / publish.WORK):
            name, _, rest = entry.name.rpartition(f"{step.replace(':', '.')}.")
            if not name and entry.is_dir():
                return f" (process {rest.split('.')[0]})"
    return ""

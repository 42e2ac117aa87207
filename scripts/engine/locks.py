"""Who may work when: one build at an artifact, and nothing beside a measurement, across all builds of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from scripts.common.machine import temporary
from scripts.engine import publish
from scripts.engine.process import check_interrupted
from scripts.engine.step import Step

#: A wait is cut into pieces so long, in seconds: no signal gets through to a thread, nor into the wait itself.
_PIECE = 0.5


@contextlib.contextmanager
def turn(step: Step) -> Iterator[None]:
    """Steps that measure run alone, whatever `-n`, also across builds on this machine; others run together."""
    from filelock import ReadWriteLock, Timeout  # only when something runs

    lock = ReadWriteLock(temporary("measuring.lock"), is_singleton=False)
    take, mine = (lock.acquire_write, "others to end") if step.alone else (lock.acquire_read, "a measurement to end")
    told = False
    while True:
        check_interrupted()
        try:
            take(_PIECE)
            break
        except Timeout:
            if not told:
                step.engine.progress.note(f"{step.name}: waiting for {mine}")
            told = True
    try:
        yield
    finally:
        lock.release()
        lock.close()


def file_of(step: Step, end: str) -> Path:
    """A file that only the holder of an artifact's lock writes; or, with `lock` as its end, that lock."""
    return step.engine.build / ".locks" / f"{step.name.replace(':', '.')}.{end}"


@contextlib.contextmanager
def artifact(step: Step) -> Iterator[None]:
    """Hold this artifact's lock; say so if another build holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(file_of(step, "lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        step.engine.progress.note(f"{step.name}: waiting for another build{_whose(step)} that is at it")
        while not lock.is_locked:
            check_interrupted()
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=_PIECE)
    try:
        yield
    finally:
        lock.release()


def _whose(step: Step) -> str:
    """The process that works on it, as its work folder is called."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(step.engine.build / publish.WORK):
            name, _, rest = entry.name.rpartition(f"{step.name.replace(':', '.')}.")
            if not name and entry.is_dir():
                return f" (process {rest.split('.')[0]})"
    return ""

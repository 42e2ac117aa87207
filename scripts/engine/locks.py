"""Who may work when: one build at an artifact, and nothing beside a measurement, across all builds of this machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from scripts.common.machine import temporary
from scripts.common.process import check_interrupted
from scripts.engine import holders, publish

#: A wait is cut into pieces so long, in seconds: no signal gets through to a thread, nor into the wait itself.
_PIECE = 0.5
#: A wait is told again after so many seconds.
_AGAIN = 60.0
#: So many of those that are waited for are named.
_NAMED = 3
#: The end of the file that is locked while files of an output are removed.
_GATE = "removal"


@contextlib.contextmanager
def measurement(step: str, build: Path, *, alone: bool, note: Callable[[str], None]) -> Iterator[None]:
    """Steps that measure run alone, whatever `-n`, also across builds on this machine; others run together.

    `note` is told for whom it waits, at once and each minute.
    """
    from filelock import ReadWriteLock, Timeout  # only when something runs

    path = temporary("measuring.lock")
    lock, folder = ReadWriteLock(path, is_singleton=False), Path(f"{path}.holders")
    take = lock.acquire_write if alone else lock.acquire_read
    started, noted = time.monotonic(), None
    while True:
        check_interrupted()
        try:
            take(_PIECE)
            break
        except Timeout:
            now = time.monotonic()
            if noted is None or now - noted >= _AGAIN:
                so_far = "" if noted is None else f", for {(now - started) / 60:.0f} min by now"
                note(f"{step}: waiting for {_awaited(folder, alone)} to end{so_far}")
                noted = now
    try:
        with holders.registered(folder, step, build, alone=alone):
            yield
    finally:
        lock.release()
        lock.close()


def _awaited(folder: Path, alone: bool) -> str:
    """Who has to end first: for what measures, everything; for the rest, what measures."""
    found = holders.living(folder)
    named = [str(holder) for holder in found if alone or holder.alone]
    if not named:
        return "others" if alone else "a measurement"
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


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


@contextlib.contextmanager
def removal(build: Path, step: str) -> Iterator[bool]:
    """Hold the lock of a step's artifact to remove files of it; False, at once, where another build is at it.

    Whoever begins to read it meanwhile waits in `removals_ended`. Whoever began before has a work folder by then: see
    `publish.worked_at`.
    """
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(file_of(build, step, "lock"), timeout=0))
            held.enter_context(FileLock(file_of(build, step, _GATE), timeout=_PIECE))  # who reads has it for an instant
            free = True
        except Timeout:
            free = False
        yield free


def removals_ended(build: Path, steps: Iterable[str]) -> None:
    """Wait for removals that began before this build's work folder was there: later ones respect that it reads."""
    from filelock import FileLock, Timeout

    for gate in (file_of(build, step, _GATE) for step in steps):
        lock = FileLock(gate)
        while gate.exists() and not lock.is_locked:
            check_interrupted()
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=_PIECE)
        lock.release()


def _holder(build: Path, step: str) -> str:
    """The process that works on it, by the name of its work folder."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(build / publish.WORK):
            name, _, rest = entry.name.rpartition(f"{step.replace(':', '.')}.")
            if not name and entry.is_dir():
                return f" (process {rest.split('.')[0]})"
    return ""

"""Writing into a Foundry cache: one deployment at a time, and an error that says what can be done about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from scripts.common.errors import IngotError
from scripts.foundry.marks import FOLDER

_IN_USE = (5, 32)  # Windows: access denied (of a folder with an open file), sharing violation


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """One deployment at a time in a cache; says so if it has to wait."""
    (cache / FOLDER).mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(cache / FOLDER / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"deploy: waiting for another deployment into {cache}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(cache: Path) -> Iterator[None]:
    """Say what the reader can do about a cache that cannot be written. Raises `IngotError`."""
    try:
        yield
    except OSError as error:
        remedy = "Make it writable, or set foundry.cache in models.toml to a folder of yours"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            remedy = "Free some space, or set foundry.cache to a folder on another disk"
        elif error.errno == errno.EBUSY or getattr(error, "winerror", None) in _IN_USE:
            remedy = "Close what uses the model, such as a Foundry Local that has it loaded, and deploy again"
        raise IngotError(
            error.filename or cache, f"the Foundry cache cannot be written: {error.strerror or error}", remedy
        ) from error

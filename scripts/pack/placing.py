"""Where a pack goes: it appears whole under its name, or not at all, whatever ends the program."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from scripts.common import folders, moving
from scripts.common.errors import IngotError


def check(out: Path, size: int, *, force: bool, ours: frozenset[str] | None = None) -> None:
    """Raise `IngotError` where nothing may be written there: it exists, its folder does not, the disk is too full.

    `size` in bytes. `ours`: the names that a folder which is replaced may hold; None where a file is written.
    """
    if not out.parent.is_dir():
        raise IngotError(out.parent, "no such folder", "Make it first, or name another place")
    if os.path.lexists(out):
        found = "is a link" if out.is_symlink() else "is a folder" if out.is_dir() else "exists"
        if not force and found == "exists":
            raise IngotError(out, found, "Name another file, or say --force to replace it")
        if ours is None and found != "exists":
            raise IngotError(out, found, "Name a file")
        if ours is not None and (found != "is a folder" or not {path.name for path in out.iterdir()} <= ours):
            raise IngotError(out, "is something else than an OCI image layout", "Name a folder that is not there yet")
        if ours is not None and not force:
            raise IngotError(out, "exists", "Name another folder, or say --force to replace it")
    free = shutil.disk_usage(out.parent).free
    if free < size:
        found = f"{size / 1e6:.1f} MB are needed there, {free / 1e6:.1f} MB are free"
        raise IngotError(out, found, "Free some, or name another place")


@contextmanager
def placed(out: Path) -> Iterator[Path]:
    """A name beside `out` to write to, a file or a folder, that becomes `out` when all went well and goes else.

    What is there is replaced. Raises `IngotError` where it can't be written.
    """
    _sweep(out)
    work = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with _ended_by_signals():
            try:
                yield work
                if work.is_dir():
                    folders.flush(work)
                    _replace_folder(work, out)
                else:
                    folders.flush_file(str(work))
                    moving.move(work, out)
                folders.flush_folder(out.parent)
            finally:
                _remove(work)
    except OSError as error:
        where = error.filename if error.filename and ".part" not in str(error.filename) else out
        found = f"can't be written or read: {error.strerror or error}"
        raise IngotError(where, found, "Nothing is left of it") from None


def _replace_folder(work: Path, out: Path) -> None:
    if not out.exists():
        moving.move(work, out)
    elif not folders.exchange(work, out):
        old = work.with_suffix(".old")
        moving.move(out, old)
        moving.move(work, out)
        _remove(old)


def _sweep(out: Path) -> None:
    """Remove what a program left that was killed while it wrote to this place."""
    for path in out.parent.glob(".*.part"):
        found = re.fullmatch(re.escape(f".{out.name}.") + r"(\d+)\.part", path.name)
        if found and not _runs(int(found[1])):
            _remove(path)


def _runs(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end the program as Ctrl-C does: what was half made goes."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [found for name in ("SIGTERM", "SIGHUP") if (found := getattr(signal, name, None)) is not None]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Work in private, appear whole: work folders, their locks, the exchange that publishes, the sweep after a death.

A step works in a folder of its own below `build/.work`, so on the file system of its output. Publishing swaps the
finished folder with the one that stands under the final name, in one system call where there is one (Linux); else the
old is moved aside first, and a note lets the next build put it back. Whatever dies, and whenever, what stands under a
final name is whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

WORK = ".work"
_NOTE, _OUT, _ASIDE = "aside.json", "out", "old"
_ABANDONED_SECONDS = 3600
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_numbers = itertools.count(1)


@contextlib.contextmanager
def workspace(build: Path, step: str) -> Iterator[Path]:
    """A private folder for one run of a step, removed afterwards; `build/.work/<step>.<pid>.<n>`."""
    folder = build / WORK / f"{step.replace(':', '.')}.{os.getpid()}.{next(_numbers)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    with lock:  # before the folder is there, so that no sweep finds it unlocked
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    Path(f"{folder}.lock").unlink(missing_ok=True)
    Path(f"{folder}.child.lock").unlink(missing_ok=True)


def publish(folder: Path, final: Path, build: Path) -> None:
    """Put a finished `folder` (below a work folder) in place of `final`; the old one, if any, is gone afterwards."""
    flush(folder)
    final.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(final):
        folder.rename(final)
    elif not _exchange(folder, final):
        aside = folder.parent / _ASIDE
        (folder.parent / _NOTE).write_text(json.dumps({"final": final.relative_to(build).as_posix()}), encoding="utf-8")
        final.rename(aside)
        folder.rename(final)
    flush_folder(final.parent)


def sweep(build: Path) -> list[str]:
    """Clear what dead builds left below `build/.work`; returns the names of what was cleared.

    A folder is dead if neither its build nor its child holds its lock. Where the death fell between the two moves of
    a publish without exchange, the old artifact is put back first.
    """
    swept = []
    work = build / WORK
    if not work.is_dir():
        return []
    for folder in sorted(path for path in work.iterdir() if path.is_dir()):
        with contextlib.suppress(Timeout):
            locks = [FileLock(f"{folder}{end}", timeout=0) for end in (".lock", ".child.lock")]
            with locks[0], locks[1]:
                _recover(folder, build)
                shutil.rmtree(folder, ignore_errors=True)
                for end in (".lock", ".child.lock"):
                    Path(f"{folder}{end}").unlink(missing_ok=True)
            swept.append(folder.name)
    for lock in work.glob("*.lock"):  # of a death between lock and folder; a young one may be just being taken
        with contextlib.suppress(OSError):
            folder = Path(str(lock).removesuffix(".lock").removesuffix(".child"))
            if not folder.exists() and time.time() - lock.stat().st_mtime > _ABANDONED_SECONDS:
                lock.unlink()
    return swept


def flush(folder: Path) -> None:
    """Have every file and folder below on disk, so that a rename never outruns the data it names."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(path, name)
            if os.path.islink(file):
                continue
            # Windows flushes only through a handle that may write.
            with open(file, "r+b" if os.name == "nt" else "rb") as opened:
                os.fsync(opened.fileno())
        flush_folder(Path(path))


def flush_folder(folder: Path) -> None:
    """Have a folder's own entries on disk (where the system can)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _recover(folder: Path, build: Path) -> None:
    note, aside = folder / _NOTE, folder / _ASIDE
    if not note.exists() or not aside.exists():
        return
    with contextlib.suppress(ValueError, KeyError):
        final = build / json.loads(note.read_text(encoding="utf-8"))["final"]
        if not os.path.lexists(final):
            aside.rename(final)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; False where this system or file system can't."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):  # glibc before 2.28
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))

"""Folders that appear whole: what is on disk before it gets its name, and two names that change places in one step."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from scripts.common import moving

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; False where this system or file system can't."""
    if sys.platform != "linux":
        return False
    import ctypes  # only when something is published

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):  # glibc before 2.28
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def flush(folder: Path) -> None:
    """Have every file and folder below on disk, so that a rename never outruns the data it names."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(path, name)
            if not os.path.islink(file):
                flush_file(file)
        flush_folder(Path(path))


def flush_file(file: str) -> None:
    """Have a file's bytes on disk."""
    # Windows flushes only through a handle that may write. A read-only file was flushed when it was made: this is a
    # link to it.
    if moving.WINDOWS and not os.stat(file).st_mode & stat.S_IWRITE:
        return
    with open(file, "r+b" if moving.WINDOWS else "rb") as opened:
        os.fsync(opened.fileno())


def flush_folder(folder: Path) -> None:
    """Have a folder's own entries on disk (where the system can)."""
    if moving.WINDOWS:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

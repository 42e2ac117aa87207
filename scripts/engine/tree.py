"""Cloning folders, making them read-only, removing them: no digest is lost though the ctime of shared inodes moves."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from scripts.common import links, moving
from scripts.engine.digests import Digests, stamp

#: Smaller files are copied into the store: an edit in place of the one is then none of the other.
_SMALL = 1 << 20
_READ = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


@contextlib.contextmanager
def _carried(path: str, digests: Digests) -> Iterator[None]:
    """Around a change of an inode's ctime by Ingot itself, and of nothing else; the name may go away in it."""
    handle = os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_NOFOLLOW", 0))
    try:
        before = stamp(os.fstat(handle))
        yield
        digests.carry(before, stamp(os.fstat(handle)))
    finally:
        os.close(handle)


def clone(source: str, target: str, digests: Digests) -> None:
    """Copy a folder that Ingot made: links kept as links, small files copied, big ones linked."""
    os.mkdir(target)
    for entry in sorted(os.scandir(source), key=lambda found: found.name):
        other = f"{target}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), other)
        elif entry.is_dir():
            clone(entry.path, other, digests)
        elif entry.stat().st_size < _SMALL:
            shutil.copyfile(entry.path, other)
        else:
            with _carried(entry.path, digests):
                links.link(Path(entry.path), Path(other))


def make_read_only(folder: str, digests: Digests) -> None:
    """Make every file below read-only; what a link points to is the user's, and is left alone."""
    for entry in list(os.scandir(folder)):
        if entry.is_symlink():
            continue
        if entry.is_dir():
            make_read_only(entry.path, digests)
        elif entry.stat().st_mode & 0o222:
            with _carried(entry.path, digests):
                os.chmod(entry.path, _READ)


def remove(path: str, digests: Digests) -> None:
    """Remove a file, a link or a folder with all below it, as far as that can be done."""
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(OSError):
            _unlink(path, digests)
        return
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
        for entry in list(os.scandir(path)):
            remove(entry.path, digests)
        os.rmdir(path)


def _unlink(path: str, digests: Digests) -> None:
    status = os.lstat(path)
    if status.st_nlink > 1 and stat.S_ISREG(status.st_mode) and not moving.WINDOWS:
        with _carried(path, digests):
            os.unlink(path)
    else:
        moving.unlink(path)


def move(source: str, target: str, digests: Digests) -> None:
    """Give a file another name on its file system."""
    with _carried(source, digests):
        moving.move(Path(source), Path(target))


def link(source: str, target: str, digests: Digests) -> None:
    """Give a file that Ingot made a second name."""
    with _carried(source, digests):
        links.link(Path(source), Path(target))

"""Small file operations that must be right everywhere: linking big files, moving, writing JSON whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from pathlib import Path
from typing import Any

from scripts.common.childenv import LINK_JOURNAL

WINDOWS = os.name == "nt"
#: How long a virus scanner or an indexer may hold a new file on Windows, in seconds.
_HELD = 3.0


def link(source: Path, target: Path) -> str:
    """Give `source`'s bytes a second name without copying them, as well as this file system can.

    Returns "reflink", "hardlink" or "copy" (another file system: the caller should say so). Only for files that
    Ingot made: a hard link shares the inode, and a user's own weights must never change with ours.
    """
    import reflink_copy  # here: the build itself writes JSON but links nothing

    target.parent.mkdir(parents=True, exist_ok=True)
    before = source.stat()
    try:
        reflink_copy.reflink(source, target)
    except OSError:
        target.unlink(missing_ok=True)
    else:
        return "reflink"
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        return "copy"
    _journal(before, source.stat())
    return "hardlink"


def move(source: Path, target: Path) -> None:
    """Rename; a file in the way is replaced. Windows refuses while anybody has it open: there, try for a while."""
    end = time.monotonic() + _HELD
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if not WINDOWS or time.monotonic() > end:
                raise
            time.sleep(0.05)


def unlink(path: str) -> None:
    """Remove a file; Windows refuses where it is read-only, so there it is made writable first."""
    try:
        os.unlink(path)
    except PermissionError:
        if not WINDOWS:
            raise
        os.chmod(path, stat.S_IREAD | stat.S_IWRITE)
        os.unlink(path)


def _journal(before: os.stat_result, after: os.stat_result) -> None:
    """Tell the build that it was us who changed this inode's ctime, so that it need not hash the file again."""
    if path := os.environ.get(LINK_JOURNAL):
        marks = [[s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in (before, after)]
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(marks) + "\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader sees the old file or the whole new one, whatever kills us."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with work.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    work.replace(path)


def read_json(path: Path) -> Any:
    """Read a JSON file; `ValueError` names the file where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error

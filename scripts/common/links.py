"""Giving large files a second name without copying them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from scripts.common.childenv import LINK_JOURNAL


def link(source: Path, target: Path) -> str:
    """Give `source`'s bytes a second name without copying them, as well as this file system can.

    Returns "reflink", "hardlink" or "copy" (another file system: the caller should say so). Only for files that
    Ingot made: a hard link shares the inode, and a user's own weights must never change with Ingot's.
    """
    import reflink_copy  # here: the build itself imports this module for each run, and rarely links

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


def _journal(before: os.stat_result, after: os.stat_result) -> None:
    """Tell the build that it was us who changed this inode's ctime, so that it need not hash the file again."""
    if path := os.environ.get(LINK_JOURNAL):
        marks = [[s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in (before, after)]
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(marks) + "\n")

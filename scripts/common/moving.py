"""Moving and removing files, also on Windows, which refuses while anybody has them open or they are read-only."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

WINDOWS = os.name == "nt"
#: How long a virus scanner or an indexer may hold a new file on Windows, in seconds.
_HELD = 3.0


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

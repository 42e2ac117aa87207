"""Who holds a lock: a file for each holder in a folder beside it, for those who wait to name.

The lock alone decides; a file that is missing, or is left by a process that was killed, changes only what is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.common import json_files
from scripts.common.alive import is_alive
from scripts.common.visible import line

#: Seconds by which the clocks of the system may differ, or have been set.
_CLOCK = 5.0


@dataclass(frozen=True)
class Holder:
    """Which step of which build, in which process, since when (seconds since the epoch), and whether it is alone."""

    step: str
    build: str
    process: int
    since: float
    alone: bool

    def __str__(self) -> str:
        since = time.strftime("%H:%M", time.localtime(self.since))
        where = "this build" if self.process == os.getpid() else f"{self.build}, process {self.process}"
        return line(f"{self.step} ({where}, since {since})")


@contextlib.contextmanager
def registered(folder: Path, step: str, build: Path, *, alone: bool) -> Iterator[None]:
    """While it lasts, those who wait know of it; where the folder is another user's, they don't."""
    file = folder / f"{os.getpid()}.{threading.get_ident()}.json"
    holder = Holder(step, str(build), os.getpid(), time.time(), alone)
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        _sweep(folder)
        file.write_text(json.dumps(asdict(holder)), encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def living(folder: Path) -> list[Holder]:
    """Those that hold it now, longest first; what a dead process left is removed."""
    found = []
    for file in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):  # it has just ended, or is being written
            holder = Holder(**json_files.read(file))
            if _lives(holder):
                found.append(holder)
            else:
                file.unlink()
    return sorted(found, key=lambda holder: holder.since)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left, as far as their ids tell: else it would stay until somebody waits."""
    for file in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            if not is_alive(int(file.name.split(".")[0])):
                file.unlink()


def _lives(holder: Holder) -> bool:
    """Whether the process is still the one that wrote the file, and not a later one of the same number."""
    import psutil  # only while something is waited for

    try:
        process = psutil.Process(holder.process)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= holder.since + _CLOCK
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False

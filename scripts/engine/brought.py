"""What a worker was brought, kept for the next job up to a limit: what was used least lately goes first, and never what
a job uses now.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts.engine import publish, tree
from scripts.engine.digests import Digests

#: The variable that sets the limit, in bytes; without it, it is this share of the disk.
LIMIT = "INGOT_WORKER_CACHE"
_SHARE = 0.25


def limit_of(folder: Path) -> int:
    """Bytes that may be kept in a folder. Raises `ValueError` where the variable is not a number of bytes."""
    told = os.environ.get(LIMIT)
    try:
        return int(float(told)) if told else int(_SHARE * shutil.disk_usage(folder).total)
    except (ValueError, OverflowError):
        raise ValueError(f"{LIMIT} is {told!r}: give a number of bytes, such as 200e9") from None


class Brought:
    """Folders that are kept, by their names relative to `folder`, such as "inputs/<key>". Safe to be used by threads.

    When one was used last is when it was last changed, so that a worker that is started again knows it.
    """

    def __init__(self, folder: Path, parts: tuple[str, ...], limit: int, digests: Digests) -> None:
        self.folder, self.parts, self.limit, self.digests = folder, parts, limit, digests
        self._lock, self._tidying = threading.Lock(), threading.Lock()
        self._used: Counter[str] = Counter()

    @contextlib.contextmanager
    def using(self, names: Iterable[str]) -> Iterator[None]:
        """These are not removed meanwhile; afterwards others may have to go."""
        held = [*names]
        with self._lock:
            self._used.update(held)
        try:
            yield
        finally:
            with self._lock:
                self._used.subtract(held)
            for name in held:
                with contextlib.suppress(OSError):
                    os.utime(self.folder / name)
            with contextlib.suppress(OSError):  # what a job made is no worse for it, and the next one tries again
                self.make_room()

    def make_room(self) -> None:
        """Remove what was used least lately, until what is kept is within the limit or is all in use. One thread at a
        time: what another removes would count as kept. Raises `OSError`.
        """
        with self._tidying:
            self._make_room()

    def _make_room(self) -> None:
        kept = sorted(self._kept())
        sizes = {name: _size(self.folder / name) for _, name in kept}
        total = sum(sizes.values())
        for _, name in kept:
            if total <= self.limit:
                return
            if self._remove(name):
                total -= sizes[name]

    def _kept(self) -> Iterator[tuple[float, str]]:
        for part in self.parts:
            with contextlib.suppress(OSError):
                for entry in [*os.scandir(self.folder / part)]:
                    with contextlib.suppress(OSError):
                        yield entry.stat().st_mtime, f"{part}/{entry.name}"

    def _remove(self, name: str) -> bool:
        with publish.workspace(self.folder, "remove", self.digests) as work:
            with self._lock:  # nobody starts to use it while it is moved away
                if self._used[name] > 0:
                    return False
                try:
                    (self.folder / name).rename(work / "removed")
                except OSError:  # somebody removed it
                    return False
            tree.remove(str(work / "removed"), self.digests)
        return True


def _size(folder: Path) -> int:
    """Bytes below a folder; what links lead to is counted where it is."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(place, name)).st_size
    return found

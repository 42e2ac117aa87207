"""BLAKE3 digests of files, each computed once and kept for as long as the file's stamp stays the same.

The stamp is (inode, size, mtime, ctime). ctime is what makes it trustworthy: no program sets it, so an edit that keeps
size and mtime is seen too. It has two weak spots, both closed here. It moves when Ingot itself links a file: `carry`
notes the new one. And it has the resolution of a kernel tick: `settle` waits until a later edit must show.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

from scripts.engine.state import Stamp, State

#: On Windows ctime is the time of creation, which an edit leaves alone: there, files are hashed once a run.
CTIME_TELLS = os.name != "nt"
#: Longer than a tick of any kernel in use (100 Hz), in seconds.
TICK = 0.011
_LARGE = 1 << 20


def stamp(status: os.stat_result) -> Stamp:
    """A file's stamp."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def digest_bytes(data: bytes) -> str:
    """BLAKE3 of bytes in memory, in hexadecimal."""
    return blake3(data).hexdigest()


def _digest_file(path: str, size: int) -> str:
    if size < _LARGE:
        return digest_bytes(Path(path).read_bytes())
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


class Digests:
    """Digests by stamp, read from the state file once and written through to it."""

    def __init__(self, state: State) -> None:
        self._state = state
        rows = state.rows("select inode, size, mtime, ctime, digest from digests") if CTIME_TELLS else []
        self._known: dict[int, tuple[Stamp, str]] = {row[0]: ((row[0], row[1], row[2], row[3]), row[4]) for row in rows}
        self.hashed_bytes = 0

    def of(self, path: str, status: os.stat_result | None = None) -> str:
        """The digest of one file (symlinks followed). Raises `OSError` where it can't be read."""
        mark = stamp(status or os.stat(path))
        known = self._known.get(mark[0])
        if known and known[0] == mark:
            return known[1]
        self.settle([mark])
        digest = _digest_file(path, mark[1])
        self.hashed_bytes += mark[1]
        if stamp(os.stat(path)) == mark:  # else it is being written: right for now, not worth keeping
            self._keep(mark, digest)
        return digest

    def carry(self, before: Stamp, after: Stamp) -> None:
        """Ingot itself changed an inode's ctime (a link, a chmod): keep its digest if it matched just before."""
        known = self._known.get(before[0])
        if known and known[0] == before and before[:3] == after[:3]:
            self._keep(after, known[1])

    def carry_journal(self, journal: Path) -> None:
        """`carry` for every line that `files.link` wrote into `journal`."""
        if journal.exists():
            for line in journal.read_text(encoding="utf-8").splitlines():
                before, after = json.loads(line)
                self.carry(tuple(before), tuple(after))

    @staticmethod
    def settle(marks: Iterable[Stamp]) -> None:
        """Wait, a tick at most, until an edit of any of these files would show in its ctime."""
        newest = max((mark[3] for mark in marks), default=0)
        wait = newest / 1e9 + TICK - time.time()
        if 0 < wait <= TICK:
            time.sleep(wait)

    def _keep(self, mark: Stamp, digest: str) -> None:
        self._known[mark[0]] = (mark, digest)
        if CTIME_TELLS:
            self._state.rows("insert or replace into digests values (?, ?, ?, ?, ?)", *mark, digest)

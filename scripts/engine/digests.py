"""BLAKE3 digests of files, each computed once and kept for as long as the file's stamp stays the same.

The stamp is (inode, size, mtime, ctime). ctime is what makes it trustworthy: no program sets it, so an edit that keeps
size and mtime is seen too. It has two weak spots, both closed here. It moves when Ingot itself links a file: `carry`
notes the new one. And it has the resolution of a kernel tick: `wait_until_edits_show` closes that.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts.common.hashes import digest_file
from scripts.common.moving import WINDOWS
from scripts.engine.state import Stamp, State

#: On Windows ctime is the time of creation, which an edit leaves alone: there, files are hashed once a run.
CTIME_TELLS = not WINDOWS
#: Longer than a tick of any kernel in use (100 Hz), in seconds.
TICK = 0.011
_HUGE = 4 << 30


def stamp(status: os.stat_result) -> Stamp:
    """A file's stamp."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns if CTIME_TELLS else 0)


class Digests:
    """Digests by stamp, read from the state file when first needed and written through to it.

    With `forgetful`, nothing that an earlier run computed is believed: `doit check --deep` reads every byte again.
    """

    def __init__(self, state: State, *, forgetful: bool = False) -> None:
        self._state = state
        self._durable = CTIME_TELLS and not forgetful
        # By inode and mtime: that stays one entry when Ingot moves the ctime, and another disk's inode is another.
        self._known: dict[tuple[int, int], tuple[Stamp, str]] = {}
        self._journals: dict[str, int] = {}
        self._not_yet_known: dict[Stamp, Stamp] = {}
        self._hashing = threading.Lock()
        self.hashed_bytes = 0

    def of(self, path: str, status: os.stat_result | None = None) -> str:
        """The digest of one file (symlinks followed). Raises `OSError` where it can't be read."""
        status = status or os.stat(path)
        mark = stamp(status)
        if digest := self._lookup(mark):
            return digest
        if not stat.S_ISREG(status.st_mode):  # to read a pipe or a socket may take for ever
            raise OSError(errno.EINVAL, "is neither a file nor a folder", path)
        with self._hashing:  # one file at a time, by all cores; and not twice by two tasks
            for journal in list(self._journals):
                self.read_journal(journal)
            return self._lookup(mark) or self._compute(path, mark)

    def knows(self, status: os.stat_result) -> bool:
        """Whether a file's digest is known, so that `of` would not read it."""
        return self._lookup(stamp(status)) is not None

    def carry(self, before: Stamp, after: Stamp) -> None:
        """Ingot itself changed an inode's ctime (a link, a chmod): keep its digest if it matched just before."""
        if before[:3] != after[:3]:
            return
        if not (digest := self._lookup(before)):
            self._not_yet_known[before] = after  # two children linked it, and the second one's word comes first
            return
        while after in self._not_yet_known:
            after = self._not_yet_known.pop(after)
        self._keep(after, digest)

    @contextlib.contextmanager
    def journal(self, path: Path) -> Iterator[None]:
        """While a child may link files and note so in `path`, read there before a file is hashed again, and at last."""
        self._journals[str(path)] = 0
        try:
            yield
        finally:
            with self._hashing:
                self.read_journal(str(path))
                del self._journals[str(path)]

    def read_journal(self, path: str) -> None:
        """`carry` for every new line that `links.link` wrote."""
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            file.seek(self._journals[path])
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    break
                self._journals[path] += len(line)
                before, after = json.loads(line)
                self.carry(tuple(before), tuple(after))

    @staticmethod
    def wait_until_edits_show(marks: Iterable[Stamp]) -> None:
        """Wait, a tick at most, until an edit of any of these files would show in its ctime."""
        newest = max((mark[3] for mark in marks), default=0)
        wait = newest / 1e9 + TICK - time.time()
        if 0 < wait <= TICK:
            time.sleep(wait)

    def _compute(self, path: str, mark: Stamp) -> str:
        if mark[1] >= _HUGE:  # seconds at best; on standard error, since standard output may be for programs
            print(f"reading {path} ({mark[1] / 1e9:.0f} GB), which is new or was touched", file=sys.stderr)
        self.wait_until_edits_show([mark])
        digest = digest_file(path, mark[1])
        self.hashed_bytes += mark[1]
        if stamp(os.stat(path)) == mark:  # else it is being written: right for now, not worth keeping
            self._keep(mark, digest)
        return digest

    def _lookup(self, mark: Stamp) -> str | None:
        name = (mark[0], mark[2])
        known = self._known.get(name)
        if known is None and self._durable and (text := self._state.get("digest", f"{mark[0]} {mark[2]}")):
            with contextlib.suppress(ValueError):  # another version's
                size, ctime, digest = text.split(" ")
                known = self._known[name] = ((mark[0], int(size), mark[2], int(ctime)), digest)
        return known[1] if known and known[0] == mark else None

    def _keep(self, mark: Stamp, digest: str) -> None:
        self._known[mark[0], mark[2]] = (mark, digest)
        if self._durable:
            self._state.put("digest", f"{mark[0]} {mark[2]}", f"{mark[1]} {mark[3]} {digest}")

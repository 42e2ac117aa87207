"""Files of a shared store, brought here by digest: in pieces, several at once, and gone on with where it was cut short.

A file grows in `build/.fetched` under its digest, also over several runs; it leaves that folder once its bytes have
this digest, and not before.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from scripts.common.process import check_interrupted
from scripts.engine import tree
from scripts.engine.digests import Digests
from scripts.engine.listed import LyingError
from scripts.engine.remote import Remote, RemoteError, TooShortError

FOLDER = ".fetched"
#: Bytes of a piece; how many pieces are under way for one file, and how many files.
PIECE, PIECES, FILES = 8 << 20, 4, 4


def blob(digest: str) -> str:
    """Where a store has the content of this digest."""
    return f"v1/blobs/{digest[:2]}/{digest}"


class Fetching:
    """Brings blobs of one place to one build folder, until `patience` seconds have passed."""

    def __init__(
        self, remote: Remote, build: Path, digests: Digests, patience: float, on_bytes: Callable[[int], None]
    ) -> None:
        self._remote, self._folder, self._digests = remote, build / FOLDER, digests
        self._patience, self._end, self._on_bytes = patience, time.monotonic() + patience, on_bytes

    def bring(self, blobs: Mapping[str, int], into: Path) -> dict[str, Path]:
        """Digest → bytes in; digest → file in the folder `into` out.

        Raises `LyingError` where the store has not what it should, `RemoteError` where it can't be used.
        """
        self._folder.mkdir(exist_ok=True)
        with (
            self._growing(into) as parts,
            ThreadPoolExecutor(FILES) as files,
            ThreadPoolExecutor(FILES * PIECES) as pieces,
        ):
            jobs = {d: files.submit(self._one, d, size, parts, into, pieces) for d, size in blobs.items()}
            try:
                return {digest: job.result() for digest, job in jobs.items()}
            except BaseException:
                self._end = 0.0  # those that are under way need not finish
                files.shutdown(cancel_futures=True)
                raise

    @contextlib.contextmanager
    def _growing(self, into: Path) -> Iterator[Path]:
        """The folder in which files grow; `into` itself where somebody else is at it, so that two never write one."""
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._folder / ".lock", timeout=0):
                yield self._folder
        except Timeout:
            yield into

    def _one(self, digest: str, size: int, parts: Path, into: Path, pieces: ThreadPoolExecutor) -> Path:
        part, target = parts / f"{digest}.part", into / digest
        for last in (False, True):  # a bit may flip on the way: once more from the start
            self._grow(part, digest, size, pieces)
            if self._digests.of(str(part)) == digest:
                break
            os.unlink(part)
            if last:
                raise LyingError(f"the content of {digest[:12]}… is another")
        tree.move(str(part), str(target), self._digests)
        return target

    def _grow(self, part: Path, digest: str, size: int, pieces: ThreadPoolExecutor) -> None:
        """Append what is missing, in order, while later pieces are on their way."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(part, flags, 0o644), "ab", closefd=True) as file:
            have = file.seek(0, os.SEEK_END)
            if have > size:
                file.truncate(have := 0)
            self._on_bytes(have)
            coming: deque[Future[bytes]] = deque()
            starts = iter(range(have, size, PIECE))
            try:
                while True:
                    while len(coming) < PIECES and (start := next(starts, None)) is not None:
                        coming.append(pieces.submit(self._piece, digest, start, min(start + PIECE, size)))
                    if not coming:
                        return
                    data = coming.popleft().result()
                    file.write(data)
                    self._on_bytes(len(data))
            finally:
                for job in coming:
                    job.cancel()

    def _piece(self, digest: str, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, the rest asked for where an answer ended early."""
        data = bytearray()
        while start + len(data) < end:
            self._check()
            try:
                more = self._remote.read(blob(digest), start + len(data), end)
            except TooShortError:
                raise LyingError(f"the content of {digest[:12]}… is cut short") from None
            if more is None:
                raise LyingError(f"the content of {digest[:12]}… is missing")
            if len(data) + len(more) > end - start:
                raise LyingError(f"it answers more than was asked for of {digest[:12]}…")
            data += more
        return bytes(data)

    def _check(self) -> None:
        check_interrupted()
        if time.monotonic() > self._end:
            raise RemoteError(f"is slower than it may be ({self._patience:.0f} s for one artifact)")


def sweep(build: Path) -> None:
    """Remove what was cut short and never gone on with, unless somebody is at it."""
    from filelock import FileLock, Timeout

    folder = build / FOLDER
    if folder.is_dir():
        with contextlib.suppress(Timeout), FileLock(folder / ".lock", timeout=0):
            for part in folder.glob("*.part"):
                part.unlink(missing_ok=True)

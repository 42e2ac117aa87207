"""The one adapter of fsspec: files of a shared place by relative name, each call bounded in time, each error one kind.

fsspec 2026.9.0 and the file systems that it brings for s3, gs and az are imported when the first call is made.
Credentials and endpoints are those of the environment, as each cloud's own tools read them.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import math
import os
import queue
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from scripts.common.process import check_interrupted
from scripts.common.secrets import redacted

T = TypeVar("T")

#: Seconds that one call may take: a read of one piece, a question; a write may take longer, by its size.
PATIENCE = 30.0
#: Bytes a second below which a write is given up.
SLOWEST = 1 << 20
#: How often a call is made before the place counts as unusable, and the first pause in between, in seconds. The file
#: systems' own repetitions are off, where they have any: together they would take minutes.
TRIES, PAUSE = 4, 0.25
#: A wait is cut into pieces so long, in seconds: no signal gets through to a thread.
_PIECE = 0.2
#: What each file system is told beside the address: no listing is believed that was made before.
_OPTIONS: dict[str, dict[str, Any]] = {
    "file": {"auto_mkdir": True},
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 15, "retries": {"max_attempts": 0}}},
}
_NEEDS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


class RemoteError(Exception):
    """The place can't be used: it can't be reached, is too slow, or refuses. One line, without credentials."""


class TooShortError(Exception):
    """A file ends before the bytes that were asked for."""


#: What comes of trying again to no other end.
_LASTING = (RemoteError, TooShortError, PermissionError, ImportError)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Remote:
    """A place by its address, `file:///mnt/…` or `s3://bucket/…`. Safe to be used by several threads."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self.url, self.patience = url, patience
        self._opening = threading.Lock()

    def read(self, name: str, start: int, end: int) -> bytes | None:
        """The bytes from `start` to `end`, fewer where the file is shorter; None where there is no such file.

        Raises `RemoteError`, and `TooShortError` where the file ends at `start` or before.
        """

        def read() -> bytes | None:
            path = self._path(name)
            try:
                return bytes(self._files.cat_file(path, start=start, end=end))
            except FileNotFoundError:
                return None
            except PermissionError:
                raise
            except OSError:
                if self._files.info(path)["size"] <= start:  # S3 calls that an invalid range
                    return b""
                raise

        data = self._call(read)
        if data == b"":
            raise TooShortError
        return data

    def size(self, name: str) -> int | None:
        """A file's size in bytes; None where there is none. Raises `RemoteError`."""

        def size() -> int | None:
            try:
                found = self._files.info(self._path(name))
            except FileNotFoundError:
                return None
            return int(found["size"]) if found["type"] == "file" else None

        return self._call(size)

    def write(self, name: str, data: bytes) -> None:
        """Have a file with this content; a reader sees none, or all of it. Raises `RemoteError`."""
        self._call(lambda: self._placed(name, lambda path: self._files.pipe_file(path, data)))

    def upload(self, name: str, file: str, most: float = math.inf) -> None:
        """The same with the content of a file that is here, in the time that its size takes, and in `most` seconds."""
        seconds = min(most, self.patience + os.path.getsize(file) / SLOWEST)
        self._call(lambda: self._placed(name, lambda path: self._files.put_file(file, path)), seconds)

    def listing(self, folder: str) -> dict[str, tuple[int, float]]:
        """Every file below a folder: name relative to the place → size, time of its last change (s). `RemoteError`."""

        def listing() -> dict[str, tuple[int, float]]:
            self._files.invalidate_cache()
            root = self._path("")
            found = self._files.find(self._path(folder), detail=True)
            return {path[len(root) :].lstrip("/"): (int(info["size"]), _changed(info)) for path, info in found.items()}

        return self._call(listing, 20 * self.patience)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, as far as they are there. Raises `RemoteError`."""
        paths = [self._path(name) for name in names]

        def remove() -> None:
            for start in range(0, len(paths), 500):
                try:
                    self._files.rm(paths[start : start + 500])
                except FileNotFoundError:  # some file systems stop at the first that is gone
                    for path in paths[start : start + 500]:
                        with contextlib.suppress(FileNotFoundError):
                            self._files.rm_file(path)

        self._call(remove, 20 * self.patience)

    def _placed(self, name: str, write: Callable[[str], object]) -> None:
        path = self._path(name)
        if not self._is_local:  # object stores put a whole object under its name, or none
            write(path)
            return
        part = f"{path}.{uuid.uuid4().hex}.part"
        try:
            write(part)
            os.replace(part, path)
        finally:
            if os.path.lexists(part):
                os.unlink(part)

    @property
    def _is_local(self) -> bool:
        return self.url.startswith("file:")

    def _path(self, name: str) -> str:
        root = self._opened[1].rstrip("/")
        return f"{root}/{name}" if name else root

    @property
    def _files(self) -> Any:
        return self._opened[0]

    @property
    def _opened(self) -> tuple[Any, str]:
        with self._opening:
            return self._open

    @functools.cached_property
    def _open(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        protocol = self.url.partition("://")[0]
        files, root = url_to_fs(
            self.url, skip_instance_cache=True, use_listings_cache=False, **_OPTIONS.get(protocol, {})
        )
        files.retries = 1  # of s3fs
        if self._is_local and not os.path.isdir(root):
            root = urllib.parse.unquote(root)
        if self._is_local and not os.path.isdir(root):  # or a share that is not mounted would be made on this disk
            raise RemoteError(f"{root} is not there: mount it, or make that folder")
        return files, root

    def _call(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """Do something, again where it fails by what may pass."""
        for number in range(1, TRIES + 1):
            try:
                return self._once(work, seconds or self.patience)
            except Exception as error:  # noqa: BLE001  (whatever a file system raises)
                if number == TRIES or isinstance(error, _LASTING) or getattr(error, "errno", None) in _FULL:
                    raise self._translated(error) from None
            time.sleep(PAUSE * 2**number)
        raise AssertionError

    @staticmethod
    def _once(work: Callable[[], T], limit: float) -> T:
        """Do something in a thread of its own, which is left behind where it takes too long."""
        answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answer.put((work(), None))
            except BaseException as error:  # noqa: BLE001  (raised where it was waited for)
                answer.put((None, error))

        threading.Thread(target=run, daemon=True).start()
        waited = 0.0
        while True:
            check_interrupted()
            try:
                value, error = answer.get(timeout=_PIECE)
                break
            except queue.Empty:
                waited += _PIECE
            if waited >= limit:
                raise RemoteError(f"gave no answer in {limit:.0f} s")
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, RemoteError | TooShortError):
            return error
        if isinstance(error, ImportError):
            protocol = self.url.partition("://")[0]
            return RemoteError(f"needs {_NEEDS.get(protocol, 'fsspec')}: pip install -e '.[team]'")
        told = redacted(" ".join(str(error).split())) or type(error).__name__
        return RemoteError(f"{told[:300]} ({type(error).__name__})")


def _changed(info: dict[str, Any]) -> float:
    """When a file last changed, by the clock of the place: each file system has a name of its own for that."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime.datetime):
            return value.timestamp()
        if isinstance(value, str):
            return datetime.datetime.fromisoformat(value).timestamp()
    return 0.0

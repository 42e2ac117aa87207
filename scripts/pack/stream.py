"""Reading what is handed on: every byte once, its SHA-256 and its BLAKE3 taken on the way, and how far it has come."""

from __future__ import annotations

import hashlib
import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from scripts.common.errors import IngotError
from scripts.pack.content import Entry

CHUNK = 1 << 20
_EVERY = 0.2, 20.0  # seconds between two notes: on a terminal, and elsewhere


class Progress:
    """How many bytes of all were read; written in place on a terminal, every 20 s elsewhere, to standard error."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.total, self.done = sum(entry.size for entry in entries), 0
        self._on_terminal = sys.stderr.isatty()
        self._next = time.monotonic() + _EVERY[not self._on_terminal]
        self._width = 0

    def add(self, size: int) -> None:
        """So many bytes more."""
        self.done += size
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY[not self._on_terminal]
            text = f"pack: {self.done / 1e6:.1f} of {self.total / 1e6:.1f} MB"
            self._width = len(text)
            print(text, end="\r" if self._on_terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line of the terminal as it was before."""
        if self._on_terminal and self._width:
            print(" " * self._width, end="\r", file=sys.stderr, flush=True)


class Reader(io.RawIOBase):
    """The bytes of an entry as a file; `sha256` is complete when all were read."""

    def __init__(self, entry: Entry, file: BinaryIO, progress: Progress) -> None:
        self._entry, self._file, self._progress = entry, file, progress
        self._sha256, self._blake3 = hashlib.sha256(), blake3(max_threads=blake3.AUTO)
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        """So many bytes, less at the end."""
        data = self._file.read(size)
        self._sha256.update(data)
        if self._entry.blake3:
            self._blake3.update(data)
        self._read += len(data)
        self._progress.add(len(data))
        return data

    @property
    def sha256(self) -> str:
        """In hexadecimal."""
        return self._sha256.hexdigest()

    def check(self) -> None:
        """Raise `IngotError` where what was read is not what the manifest says."""
        entry = self._entry
        if self._read != entry.size or self._file.read(1) or (entry.blake3 not in (None, self._blake3.hexdigest())):
            raise IngotError(str(entry.source), "is not as its manifest says", "Build the package again: doit")


@contextmanager
def reading(entry: Entry, progress: Progress) -> Iterator[Reader]:
    """An entry, read to its end by the caller. Raises `IngotError` where it is not what the manifest says."""
    with io.BytesIO(entry.source) if isinstance(entry.source, bytes) else Path(entry.source).open("rb") as file:
        reader = Reader(entry, file, progress)
        yield reader
        reader.check()

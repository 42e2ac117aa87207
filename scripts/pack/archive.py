"""One archive: an uncompressed tar file, which Windows (from 10 on), macOS and Linux unpack by `tar -xf FILE`.

Its bytes follow from what is in it: order, times, modes and owners are the same each time. The list of digests comes
last, so that every file is read once. Format: POSIX.1-2001 (pax), whose extra headers stand only before a file of 8 GiB
or more, or with a long name.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from scripts.pack import content
from scripts.pack.content import Entry
from scripts.pack.stream import CHUNK, Progress, reading

#: 1980-01-01 UTC: no file system is too young for it.
_TIME = 315_532_800


def write(path: Path, folder: str, entries: Sequence[Entry], progress: Progress) -> str:
    """Write the archive; its SHA-256. `folder` is the one that it unpacks into.

    Raises `IngotError` for a file that is damaged.
    """
    with path.open("wb") as file:
        hashed = _Hashed(file)
        with tarfile.TarFile(fileobj=hashed, mode="w", format=tarfile.PAX_FORMAT, copybufsize=CHUNK) as tar:  # type: ignore[arg-type]
            tar.addfile(_info(folder, 0, 0o755, tarfile.DIRTYPE))
            digests = [(entry.name, _add(tar, folder, entry, progress)) for entry in entries]
            _add(tar, folder, content.sums(digests), progress)
    return hashed.sha256.hexdigest()


class _Hashed:
    """A file whose SHA-256 is taken as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()


def _add(tar: tarfile.TarFile, folder: str, entry: Entry, progress: Progress) -> str:
    with reading(entry, progress) as reader:
        tar.addfile(_info(f"{folder}/{entry.name}", entry.size, 0o755 if entry.executable else 0o644), reader)
    return reader.sha256


def _info(name: str, size: int, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime, info.type = size, mode, _TIME, kind
    return info

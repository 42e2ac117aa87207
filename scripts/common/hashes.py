"""BLAKE3 of bytes and files, the one hash by which contents are told apart."""

from __future__ import annotations

import os

from blake3 import blake3

_LARGE = 1 << 20  # bytes from which a file is read through a map, by several threads


def digest_bytes(data: bytes) -> str:
    """BLAKE3 of bytes in memory, in hexadecimal."""
    return blake3(data).hexdigest()


def digest_file(path: str | os.PathLike[str], size: int | None = None) -> str:
    """BLAKE3 of a file's content, in hexadecimal; `size` in bytes, where the caller knows it."""
    if (os.stat(path).st_size if size is None else size) < _LARGE:
        with open(path, "rb") as file:
            return digest_bytes(file.read())
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()

"""Reading small files that a user, or a stranger, wrote: in bounded time and memory, and each failure in one line.

A configuration can be anything by mistake: a folder, a pipe that never ends, a device, a link that leads to itself,
the weights. Nothing is opened that is not a regular file, and nothing is read beyond a limit.
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import Any

from scripts.common import json_values
from scripts.common.errors import IngotError, MissingInputError

#: Bytes. No configuration, workflow or chat template that people write comes near.
MOST = 1 << 20
#: Lists and tables inside each other: whoever walks such a value by recursion never meets Python's limit.
_DEEPEST = 100


def read_text(path: Path, *, most: int = MOST, missing: str = "Put it there, or correct the path") -> str:
    """The text of a file in UTF-8, with or without a byte order mark, of at most `most` bytes.

    Raises `IngotError` (`MissingInputError` where there is no such file, with the remedy `missing`).
    """
    data = _head(path, most + 1, missing)
    if len(data) > most:
        raise IngotError(path, f"is larger than {most >> 10} KiB, which is the limit", "Is it the right file?")
    return _decode(path, data, final=True)


def check_text(path: Path, *, most: int = MOST) -> None:
    """Raise `IngotError` unless `path` is a file that begins with text in UTF-8; its first `most` bytes are read."""
    _decode(path, _head(path, most, "Put it there, or correct the path"), final=False)


def read_json(path: Path, *, most: int = MOST, missing: str = "Put it there, or correct the path") -> Any:
    """The value of a JSON file of at most `most` bytes. Raises `IngotError`, as `read_text` does."""
    text = read_text(path, most=most, missing=missing)
    try:
        value = json_values.parse(text)
    except ValueError as error:
        raise IngotError(path, f"is not JSON: {error}", "Correct it there") from None
    if _is_deeper(value, _DEEPEST):
        raise IngotError(path, f"is nested more than {_DEEPEST} deep", "Write it flatter")
    return value


def resolved(folder: Path, name: str) -> Path:
    """An absolute path, from one that is relative to `folder`. Raises `ValueError` where `name` can't be a path."""
    try:
        return (folder / Path(name).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # NUL, a link that leads to itself, "~nobody"
        raise ValueError(str(error)) from None


def _head(path: Path, most: int, missing: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise IngotError(path, f"is {'a folder' if os.path.isdir(path) else 'not a regular file'}", "Give a file")
        with open(path, "rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise MissingInputError(path, "there is no such file", missing) from None
    except OSError as error:
        raise IngotError(path, f"can't be read: {error.strerror}", "Correct the path, or the file's rights") from None
    except ValueError:  # NUL
        raise IngotError(repr(str(path)), "is not a path", "Correct it") from None


def _decode(path: Path, data: bytes, *, final: bool) -> str:
    """Text; where it is not `final`, a character may be cut off at the end."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(data, final)
    except UnicodeDecodeError as error:
        raise IngotError(path, f"is not UTF-8: {error.reason} at byte {error.start}", "Save it as UTF-8") from None


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [item for found in level if isinstance(found, dict | list)
                 for item in (found.values() if isinstance(found, dict) else found)]  # fmt: skip
        if not level:
            return False
    return True

"""Reading small files that a user, or a stranger, wrote: in bounded time and memory, and each failure in one line.

A configuration can be anything by mistake: a folder, a pipe that never ends, a device, a link that leads to itself,
the weights. Nothing is opened that is not a regular file, and nothing is read beyond a limit.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

from scripts.common import json_values
from scripts.common.errors import IngotError
from scripts.common.regular import opened_of_user

#: Bytes. No configuration, workflow or chat template that people write comes near.
MOST = 1 << 20


def read_text(path: Path, *, most: int = MOST, missing: str = "Put it there, or correct the path") -> str:
    """The text of a file in UTF-8, with or without a byte order mark, of at most `most` bytes.

    Raises `IngotError` (`MissingInputError` where there is no such file, with the remedy `missing`).
    """
    data = _head(path, most + 1, missing)
    if len(data) > most:
        raise IngotError(path, f"is larger than {most >> 10} KiB, which is the limit", "Is it the right file?")
    return _decode(path, data, final=True)


def read_beginning(path: Path, most: int) -> tuple[str, bool]:
    """The text of the first `most` bytes of a file in UTF-8, and whether that is all; ends of lines are line feeds.

    Raises `IngotError`, as `read_text` does.
    """
    data = _head(path, most + 1, "Put it there, or correct the path")
    whole = len(data) <= most
    text = _decode(path, data[:most], final=whole)
    return text.replace("\r\n", "\n").replace("\r", "\n"), whole


def check_text(path: Path, *, most: int = MOST) -> None:
    """Raise `IngotError` unless `path` is a file that begins with text in UTF-8; its first `most` bytes are read."""
    if not _decode(path, _head(path, most, "Put it there, or correct the path"), final=False).strip():
        raise IngotError(path, "holds no text", "Fill it, or leave the key out")


def read_json(path: Path, *, most: int = MOST, missing: str = "Put it there, or correct the path") -> Any:
    """The value of a JSON file of at most `most` bytes. Raises `IngotError`, as `read_text` does."""
    text = read_text(path, most=most, missing=missing)
    try:
        return json_values.parse(text)
    except json_values.TooDeepError as error:
        raise IngotError(path, f"is {error}", "Write it flatter") from None
    except ValueError as error:
        raise IngotError(path, f"is not JSON: {error}", "Correct it there") from None


def expanded(path: Path | str) -> Path:
    """A path, `~` at its beginning being a home folder. Raises `IngotError` where there is no such."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise IngotError(path, "there is no such home folder", "Set HOME, or write the path from / on") from None


def resolved(folder: Path, name: str) -> Path:
    """An absolute path, from one that is relative to `folder`. Raises `ValueError` where `name` can't be a path."""
    try:
        return (folder / Path(name).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # NUL, a link that leads to itself, "~nobody"
        raise ValueError(str(error)) from None


def _head(path: Path, most: int, missing: str) -> bytes:
    with opened_of_user(path, missing) as file:
        return file.read(most)


def _decode(path: Path, data: bytes, *, final: bool) -> str:
    """Text; where it is not `final`, a character may be cut off at the end."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(data, final)
    except UnicodeDecodeError as error:
        raise IngotError(path, f"is not UTF-8: {error.reason} at byte {error.start}", "Save it as UTF-8") from None

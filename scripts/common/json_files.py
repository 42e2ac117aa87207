"""JSON files of a build: read in bounded time and memory, with an error that names the file; written whole or not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from scripts.common import json_values, regular
from scripts.common.errors import IngotError
from scripts.common.visible import json_text

#: Bytes. A manifest of a million files, or a tokenizer of 262,144 tokens, is smaller.
MOST = 64 << 20


class NotJsonError(IngotError, ValueError):
    """A file is not JSON, or larger or deeper than any that Ingot writes."""


def write(path: Path, value: Any) -> None:
    """Write `value` so that a reader sees the old file or the whole new one, whatever kills us."""
    text = dumps(value) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with work.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    work.replace(path)


def dumps(value: Any) -> str:
    """JSON that people may read too: in indented lines, letters as they are, hidden signs as their escapes."""
    return json_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def read(path: Path | str) -> Any:
    """The value of a JSON file. Raises `NotJsonError`, and `OSError` where it is not there, or not a regular file."""
    data = read_bytes(path)
    try:
        return json_values.parse(data.decode("utf-8"), strict=False)
    except ValueError as error:
        raise NotJsonError(path, f"not JSON: {error}") from None


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a file of at most `MOST`; see `read`. A pipe is not waited for, and a device not read."""
    with regular.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST:
            raise NotJsonError(path, f"has {size} bytes, where {MOST} are the limit")
        return file.read(MOST)

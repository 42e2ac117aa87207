"""JSON files that the user brings: UTF-8, with or without a byte order mark, of a sane size, an object at the top."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.common.errors import IngotError

#: The largest file of its kind that is known is a tenth of this (a tokenizer of 262,144 tokens: 33 MB).
LARGEST = 512 << 20
BOM = b"\xef\xbb\xbf"


def json_object(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file. Raises `IngotError` where it is missing, too large or something else."""
    if not path.is_file():
        raise IngotError(path, "not found", remedy)
    if path.stat().st_size > LARGEST:
        raise IngotError(path, f"{path.stat().st_size} bytes of JSON, more than the {LARGEST} that are read", remedy)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise IngotError(path, "not JSON: nested too deeply", remedy) from None
    except ValueError as error:
        raise IngotError(path, f"not JSON: {error}", remedy) from None
    if not isinstance(value, dict):
        raise IngotError(path, f"a JSON {type(value).__name__} where an object is due", remedy)
    return value


def has_bom(path: Path) -> bool:
    """Whether a file begins with UTF-8's byte order mark, which transformers' own readers stumble over."""
    with path.open("rb") as file:
        return file.read(3) == BOM

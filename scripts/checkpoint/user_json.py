"""JSON files that the user brings: UTF-8, with or without a byte order mark, of a sane size, an object at the top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common import json_values
from scripts.common.errors import IngotError, MissingInputError
from scripts.common.user_files import read_text

#: Bytes. The largest file of its kind that is known is half of this (a tokenizer of 262,144 tokens: 33 MB), and the
#: worst that can be written in so many takes a gigabyte of memory. It has 600,000 lists and 2 million values.
LARGEST = 64 << 20
_LISTS, _VALUES = 1_500_000, 6_000_000
BOM = b"\xef\xbb\xbf"


def json_object(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file. Raises `IngotError` where it is missing, too large or something else."""
    try:
        text = read_text(path, most=LARGEST)
    except MissingInputError:
        raise MissingInputError(path, "not found", remedy) from None
    if text.count("[") + text.count("{") > _LISTS or text.count(",") > _VALUES:
        raise IngotError(path, f"JSON of more than {_LISTS} lists and objects, or {_VALUES} values", remedy)
    if text.startswith("version https://git-lfs"):
        raise IngotError(path, "a Git LFS pointer, not the file", "Run `git lfs pull` there")
    try:
        value = json_values.parse(text, strict=False)
    except ValueError as error:
        raise IngotError(path, f"not JSON: {error}", remedy) from None
    if not isinstance(value, dict):
        raise IngotError(path, f"a JSON {type(value).__name__} where an object is due", remedy)
    return value


def has_bom(path: Path) -> bool:
    """Whether a file begins with UTF-8's byte order mark, which transformers' own readers stumble over."""
    with path.open("rb") as file:
        return file.read(3) == BOM

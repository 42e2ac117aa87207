"""Whether a file is one that models can be calibrated on; told without a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common import json_values
from scripts.common.errors import IngotError
from scripts.common.user_files import check_text

REMEDY = 'Give {"messages": [{"role", "content"}, …]} or {"text": "…"}'


def check(path: Path) -> int:
    """How many texts a file holds, or 1 for plain text. Raises `IngotError` for what calibration can't use."""
    if path.suffix != ".jsonl":
        check_text(path)
        return 1
    count = 0
    for place, row in json_values.lines(path, REMEDY):
        if not isinstance(row, dict) or not (isinstance(row.get("text"), str) or _is_talk(row.get("messages"))):
            raise IngotError(place, "is not a text to calibrate on", REMEDY)
        count += 1
    if not count:
        raise IngotError(path, "there is no text in it", REMEDY)
    return count


def _is_talk(value: Any) -> bool:
    turns = value if isinstance(value, list) and value else [None]
    return all(isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in turns)

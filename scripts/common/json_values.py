"""JSON as its standard has it: no NaN, true is not 1, one value a line in a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from scripts.common.errors import IngotError

_REMEDY = "Write one JSON object on each line"
_BYTE_ORDER_MARK = "\ufeff"


def parse(text: str) -> Any:
    """The value that `text` is; nothing may stand around it. Raises `ValueError` where it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal as JSON sees it: 1 is 1.0, but neither is true."""
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def lines(path: Path, remedy: str = _REMEDY) -> Iterator[tuple[str, Any]]:
    """Place ("file:line", for messages) and value of each line that is not blank, read one after the other.

    Raises `IngotError` with the place, and `remedy`, where there is no file, or a line is not UTF-8 or not JSON. Lines
    end with a line feed alone: Unicode's other separators may stand inside a JSON text.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise IngotError(path, "there is no such file", "Correct its path") from None
    with file:
        for number, raw in enumerate(file, 1):
            place = f"{path}:{number}"
            try:
                line = raw.decode("utf-8")
                text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
                if text.strip():
                    yield place, parse(text)
            except UnicodeDecodeError as error:
                found = f"is not UTF-8: {error.reason} at byte {error.start + 1} of the line"
                raise IngotError(place, found, "Save the file as UTF-8") from None
            except ValueError as error:
                raise IngotError(place, f"not JSON: {error}", remedy) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

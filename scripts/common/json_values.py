"""JSON as its standard has it: no NaN, true is not 1, one value a line in a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from scripts.common.errors import IngotError
from scripts.common.regular import opened_of_user

_REMEDY = "Write one JSON object on each line"
_BYTE_ORDER_MARK = "\ufeff"
#: Lists and objects inside each other: whoever walks such a value by recursion never meets Python's limit.
DEEPEST = 100
#: Bytes of one line: a conversation of a million characters fits, and a file without ends of lines does not.
_LONGEST = 16 << 20


class TooDeepError(ValueError):
    """A value is nested deeper than `DEEPEST`."""

    def __init__(self) -> None:
        super().__init__(f"nested too deeply, more than {DEEPEST} levels")


def parse(text: str, *, strict: bool = True) -> Any:
    """The value that `text` is; nothing may stand around it.

    Raises `ValueError` where it is not JSON, and `TooDeepError` where more than `DEEPEST` lists and objects stand in
    each other. Unless `strict`, NaN and Infinity are taken as Python's and transformers' writers write them.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant if strict else None)
    except RecursionError:
        raise TooDeepError from None
    if text.count("[") + text.count("{") > DEEPEST and is_deeper(value, DEEPEST):
        raise TooDeepError
    return value


def is_deeper(value: Any, most: int) -> bool:
    """Whether more than `most` lists and objects stand in each other."""
    level = [value]
    for _ in range(most + 1):
        level = [found for found in level if isinstance(found, dict | list)]
        if not level:
            return False
        level = [item for found in level for item in (found.values() if isinstance(found, dict) else found)]
    return True


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
    with opened_of_user(path, "Correct its path") as file:
        for number, raw in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
            place = f"{path}:{number}"
            if len(raw) > _LONGEST:
                raise IngotError(place, f"is longer than {_LONGEST >> 20} MiB, which is the limit of a line", remedy)
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

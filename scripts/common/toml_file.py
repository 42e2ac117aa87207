"""Reading a TOML file of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli

from scripts.common import json_values
from scripts.common.errors import IngotError
from scripts.common.user_files import read_text


def load(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises `IngotError` naming the file, and the line where it is not TOML."""
    text = read_text(path, missing="Write it, or name its folder with config=DIR")
    try:
        value = tomli.loads(text)
    except RecursionError:
        raise IngotError(path, f"is {json_values.TooDeepError()}", "Write it flatter") from None
    except ValueError as error:  # a number of too many digits is one that tomli does not expect
        raise IngotError(path, f"not valid TOML: {error}", "Correct that line") from None
    if json_values.is_deeper(value, json_values.DEEPEST):
        raise IngotError(path, f"is {json_values.TooDeepError()}", "Write it flatter")
    return value

"""Reading TOML tables into typed values, each mistake named once, when it is read: file, key, found, allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import tomli

from scripts.common.errors import IngotError

T = TypeVar("T")

_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


def load(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises `IngotError` naming the file, and the line where it is not TOML."""
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IngotError(path, "there is no such file", "Write it, or name its folder with config=DIR") from None
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IngotError(path, f"not valid TOML: {error}", "Correct that line") from None


def suggest(word: str, allowed: Iterable[str]) -> str:
    """A remedy for an unknown word: the nearest allowed one if it is near, and all of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(word, names, n=1)
    return (f"Did you mean {near[0]!r}? " if near else "") + "Allowed: " + ", ".join(names)


class Table:
    """One TOML table whose keys are taken one by one; `done()` refuses those that nobody took."""

    def __init__(self, values: Any, file: Path, where: str) -> None:
        self.file, self.where = file, where
        if not isinstance(values, dict):
            raise self.error("", f"expected a table, found {values!r}", "Write it as { key = value }")
        self._values: dict[str, Any] = dict(values)
        self._known: set[str] = set()

    def error(self, key: str, found: str, remedy: str = "") -> IngotError:
        """An `IngotError` about `key` of this table (or about the table, where `key` is empty)."""
        name = ".".join(part for part in (self.where, key) if part)
        return IngotError(f"{self.file}: {name}" if name else self.file, found, remedy)

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of `key`, of type `kind`; `default` where it is absent, an error where there is none."""
        self._known.add(key)
        value = self._values.pop(key, default)
        if value is None:
            raise self.error(key, "is missing", f"Give {_NAMES[kind]}")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"expected {_NAMES[kind]}, found {value!r}")
        return value

    def maybe(self, key: str, kind: type[T]) -> T | None:
        """Like `take`, and None where the key is absent."""
        self._known.add(key)
        return self.take(key, kind) if key in self._values else None

    def table(self, key: str) -> Table:
        """The table under `key`; an empty one where it is absent."""
        self._known.add(key)
        return Table(self._values.pop(key, {}), self.file, f"{self.where}.{key}".lstrip("."))

    def tables(self, key: str) -> list[Table]:
        """The list of tables under `key` (`[[key]]`), each named by its place, counted from 1."""
        rows = self.take(key, list, [])
        return [Table(row, self.file, f"{self.where}.{key}[{i}]".lstrip(".")) for i, row in enumerate(rows, 1)]

    def strings(self, key: str, default: list[str]) -> tuple[str, ...]:
        """A list of texts."""
        values = self.take(key, list, default)
        if bad := [v for v in values if not isinstance(v, str) or not v]:
            raise self.error(key, f"expected a list of texts, found {bad[0]!r} in it")
        return tuple(values)

    def numbers(self, allowed: dict[str, Callable[[float], bool]]) -> dict[str, float]:
        """Every key of the table as a number; `allowed` says which keys there are and which values each may have."""
        found = {}
        for key, holds in allowed.items():
            if (value := self.maybe(key, float)) is not None:
                if not holds(value):
                    raise self.error(key, f"{value:g} is out of range")
                found[key] = int(value) if value.is_integer() and key.startswith(("max_", "top_k")) else value
        self.done()
        return found

    def keys(self) -> list[str]:
        """The keys that nobody has taken yet."""
        return list(self._values)

    def raw(self) -> dict[str, Any]:
        """Everything not taken yet, as it stands in the file; afterwards nothing is left over."""
        values, self._values = self._values, {}
        return values

    def done(self) -> None:
        """Refuse what is left over."""
        for key in self._values:
            raise self.error(key, "unknown key", suggest(key, self._known))

"""A value of report.json that knows where it stands there, so that the page can say where each figure comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Node:
    """`raw` is the value, `at` its place such as `models.0.precisions.1.quality.kl`; what is missing is a Node of None.

    Templates reach inside as into the value itself. A field that is called `raw`, `at`, `entries` or `keys` is reached
    by brackets.
    """

    __slots__ = ("at", "raw")

    def __init__(self, raw: Any, at: str = "") -> None:
        self.raw, self.at = raw, at

    def __getitem__(self, key: str | int) -> Node:
        """The value at `key`; in what is not an object or list, or lacks it, None."""
        at = f"{self.at}.{key}" if self.at else str(key)
        if isinstance(self.raw, dict):
            return Node(self.raw.get(key), at)
        if isinstance(self.raw, list) and isinstance(key, int) and key < len(self.raw):
            return Node(self.raw[key], at)
        return Node(None, at)

    def __iter__(self) -> Iterator[Node]:
        """The elements of a list; of anything else none."""
        return (self[i] for i in range(len(self.raw))) if isinstance(self.raw, list) else iter(())

    def entries(self) -> list[tuple[str, Node]]:
        """The fields of an object, in order."""
        return [(key, self[key]) for key in self.raw] if isinstance(self.raw, dict) else []

    def __bool__(self) -> bool:
        """False for what is missing and what is empty; 0 is neither."""
        return self.raw is not None and self.raw is not False and self.raw not in ("", [], {})

    def __len__(self) -> int:
        return len(self.raw) if isinstance(self.raw, list | dict | str) else 0

"""What a build remembers of its steps between runs: when each was last seen whole, and what it cost."""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

from scripts.engine.state import State, decoded


class Receipt(NamedTuple):
    """When a step was last seen whole: its key and outcome, each file's name and stamp, digests of its parts."""

    key: str
    outcome: str
    stamps: list[tuple[str, int, int, int, int]]
    parts: dict[str, str]


class Records:
    """Receipts and costs by step name, in the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    @functools.cached_property
    def _receipts(self) -> dict[str, str]:
        return self._state.all("receipt")

    def receipt(self, name: str) -> Receipt | None:
        """What was noted when a step was last seen whole."""
        text = self._receipts.get(name)
        return decoded(text, Receipt) if text else None

    def keep_receipt(self, name: str, value: list[Any]) -> None:
        """Note that a step was seen whole."""
        self._receipts[name] = text = json.dumps(value, separators=(",", ":"))
        self._state.put("receipt", name, text)

    def drop_receipt(self, name: str) -> None:
        """Forget that a step was seen whole."""
        self._receipts.pop(name, None)
        self._state.drop("receipt", name)

    def keep_cost(self, name: str, seconds: float, peak_rss: int, likely: int | None = None) -> None:
        """Note what a step cost: wall seconds and peak resident bytes of its process tree; `likely`: what was expected
        of the latter, by the size of the model that it was then.
        """
        self._state.put("cost", name, json.dumps([round(seconds, 3), peak_rss]))
        self._state.put("likely", name, json.dumps([likely]))

    def memory(self, name: str, likely: int | None) -> int | None:
        """Peak resident bytes of a step when it last ran; None where that was of another model, or never was."""
        cost, expected = self.cost(name), self._state.value("likely", name, tuple[int | None])
        return cost[1] if cost and expected == (likely,) else None

    def cost(self, name: str) -> tuple[float, int] | None:
        """What a step cost when it last ran: wall seconds, peak resident bytes."""
        return self._state.value("cost", name, tuple[float, int])

    def give_up(self, key: str) -> None:
        """Note that what was built of this key is not to be had from elsewhere, but to be built again."""
        self._state.put("given up", key, "")

    def is_given_up(self, key: str) -> bool:
        """Whether that was noted, and it was not built since."""
        return self._state.get("given up", key) is not None

    def take_up(self, key: str) -> None:
        """It was built again."""
        if self.is_given_up(key):
            self._state.drop("given up", key)

"""What a build remembers of its steps between runs: when each was last seen whole, and what it cost."""

from __future__ import annotations

import functools
import json
from typing import Any

from scripts.engine.state import State


class Records:
    """Receipts and costs by step name, in the state file."""

    def __init__(self, state: State) -> None:
        self._state = state

    @functools.cached_property
    def _receipts(self) -> dict[str, str]:
        return self._state.all("receipt")

    def receipt(self, name: str) -> list[Any] | None:
        """[key, outcome, stamps, digests of parts] of when a step was last seen whole."""
        text = self._receipts.get(name)
        return json.loads(text) if text else None

    def keep_receipt(self, name: str, value: list[Any]) -> None:
        """Note that a step was seen whole."""
        self._receipts[name] = text = json.dumps(value, separators=(",", ":"))
        self._state.put("receipt", name, text)

    def drop_receipt(self, name: str) -> None:
        """Forget that a step was seen whole."""
        self._receipts.pop(name, None)
        self._state.drop("receipt", name)

    def keep_cost(self, name: str, seconds: float, peak_rss: int) -> None:
        """Note what a step cost: wall seconds and peak resident bytes of its process tree."""
        self._state.put("cost", name, json.dumps([round(seconds, 3), peak_rss]))

    def cost(self, name: str) -> tuple[float, int] | None:
        """What a step cost when it last ran: wall seconds, peak resident bytes."""
        text = self._state.get("cost", name)
        if text is None:
            return None
        seconds, peak_rss = json.loads(text)
        return seconds, peak_rss

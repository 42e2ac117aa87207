"""Whether a context that is asked for fits the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.common import context
from scripts.common.errors import IngotError

#: Where a config names the most tokens.
_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


def most(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a model was made for, by its config.json; None where that names none."""
    tables = (config, config.get("text_config") or {})
    found = [table[key] for table in tables for key in _KEYS if isinstance(table.get(key), int)]
    return min(found, default=None)


def choose(asked: int | None, sampling: Mapping[str, float], most: int, window: int = 0) -> int:
    """The context in tokens: `asked`, else 4096 or `sampling.max_length` if more, within the model's `most`.

    A sliding window must fit in: onnxruntime-genai refuses a cache of keys and values that is shorter.
    """
    max_length = int(sampling.get("max_length", 1))
    if asked is not None and (isinstance(asked, bool) or not isinstance(asked, int) or asked < 1):
        raise IngotError("context_length", f"is {asked!r}", "It must be a whole number of tokens from 1")
    for name, value in (("context_length", asked or 1), ("sampling.max_length", max_length)):
        if value > most:
            raise IngotError(name, f"is {value}, but the model was made for {most} tokens", f"Give at most {most}")
    if asked is not None and max_length > asked:
        raise IngotError(
            "sampling.max_length",
            f"is {max_length}, more than context_length {asked}",
            f"Lower it to {asked} or raise context_length",
        )
    if asked is not None and asked < window:
        found = f"is {asked}, less than the model's sliding window of {window} tokens"
        raise IngotError("context_length", found, f"Give at least {window}")
    return min(most, context.wanted(asked, max(max_length, window)))

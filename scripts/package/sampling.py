"""Sampling defaults and the context length: read once, then written where each version of the runtime looks.

Foundry Local's runtime of SDK 2.2.1 takes defaults from `search` and the context limit from `model.context_length`;
before, the limit was `search.max_length`; the oldest read ModelConfig of inference_model.json.

Measured with SDK 2.2.1: a request that names no `max_output_tokens` reserves 2048 tokens for the answer, and one whose
prompt and reserve exceed the context is refused. So a context of 2048 or less refuses every such request. The cache of
keys and values is sized by the context, so the model's own maximum is a bad default too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common import context as contexts
from scripts.common import json_files
from scripts.common.errors import IngotError

#: Output tokens that the runtime reserves for a request without `max_output_tokens`.
RESERVED_OUTPUT = 2048

_LIMIT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


def model_limit(checkpoint: Path, genai: Mapping[str, Any]) -> int:
    """Most tokens that the model was made for: the smaller of the checkpoint's positions and the export's context."""
    config = json_files.read(checkpoint / "config.json")
    tables = (config, config.get("text_config") or {})
    limits = [table[key] for table in tables for key in _LIMIT_KEYS if isinstance(table.get(key), int)]
    exported = genai["model"].get("context_length")
    limits += [exported] if isinstance(exported, int) else []
    if not limits:
        raise IngotError(checkpoint / "config.json", "names no max_position_embeddings", "Add it")
    return int(min(limits))


def window(genai: Mapping[str, Any]) -> int:
    """Tokens of the sliding window that the graph was built with; 0 where it has none."""
    return int((genai["model"].get("decoder", {}).get("sliding_window") or {}).get("window_size") or 0)


def choose_context(asked: int | None, sampling: Mapping[str, float], limit: int, window: int = 0) -> int:
    """The context in tokens: `asked`, else 4096 or `sampling.max_length` if more, within the model's `limit`.

    A sliding window must fit in: onnxruntime-genai refuses a cache of keys and values that is shorter.
    """
    max_length = int(sampling.get("max_length", 1))
    if asked is not None and (isinstance(asked, bool) or not isinstance(asked, int) or asked < 1):
        raise IngotError("context_length", f"is {asked!r}", "It must be a whole number of tokens from 1")
    for name, value in (("context_length", asked or 1), ("sampling.max_length", max_length)):
        if value > limit:
            raise IngotError(name, f"is {value}, but the model was made for {limit} tokens", f"Give at most {limit}")
    if asked is not None and max_length > asked:
        raise IngotError(
            "sampling.max_length",
            f"is {max_length}, more than context_length {asked}",
            f"Lower it to {asked} or raise context_length",
        )
    if asked is not None and asked < window:
        found = f"is {asked}, less than the model's sliding window of {window} tokens"
        raise IngotError("context_length", found, f"Give at least {window}")
    return min(limit, contexts.wanted(asked, max(max_length, window)))


def apply(genai: dict[str, Any], sampling: Mapping[str, float], context: int) -> dict[str, Any]:
    """`genai` (a parsed genai_config.json) with `sampling` and `context` in it; else the export's values stay."""
    search = {**genai["search"], **sampling, "max_length": int(sampling.get("max_length", context))}
    if "temperature" in sampling:  # Foundry ignores do_sample, but onnxruntime-genai alone is greedy without it
        search["do_sample"] = sampling["temperature"] > 0
    return {**genai, "model": {**genai["model"], "context_length": context}, "search": search}


def remarks(genai: Mapping[str, Any]) -> list[str]:
    """What a user should know about these settings before the first request fails; often nothing."""
    context, total = genai["model"]["context_length"], genai["search"]["max_length"]
    if context <= RESERVED_OUTPUT:
        return [
            f"Every request must set max_output_tokens: without it the runtime reserves {RESERVED_OUTPUT} tokens "
            f"for the answer, and the context is {context}."
        ]
    if total <= RESERVED_OUTPUT:
        return [
            f"Runtimes before SDK 2.2 take max_length ({total}) for the whole context; there, every request must set "
            f"max_output_tokens, because {RESERVED_OUTPUT} are reserved without it."
        ]
    return []

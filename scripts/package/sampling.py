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

from scripts.common import context_limit, json_files
from scripts.common.errors import IngotError

#: Output tokens that the runtime reserves for a request without `max_output_tokens`.
RESERVED_OUTPUT = 2048


def model_limit(checkpoint: Path, genai: Mapping[str, Any]) -> int:
    """Most tokens that the model was made for: the smaller of the checkpoint's positions and the export's context."""
    limit = context_limit.most(json_files.read(checkpoint / "config.json"))
    exported = genai["model"].get("context_length")
    limits = [value for value in (limit, exported) if isinstance(value, int)]
    if not limits:
        raise IngotError(checkpoint / "config.json", "names no max_position_embeddings", "Add it")
    return min(limits)


def window(genai: Mapping[str, Any]) -> int:
    """Tokens of the sliding window that the graph was built with; 0 where it has none."""
    return int((genai["model"].get("decoder", {}).get("sliding_window") or {}).get("window_size") or 0)


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

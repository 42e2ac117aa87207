"""What a genai_config.json, the settings of a model folder for onnxruntime-genai, says of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = "genai_config.json"


def providers(config: Mapping[str, Any]) -> list[str]:
    """Execution providers that the decoder asks for; none means CPU."""
    session = config["model"].get("decoder", {}).get("session_options", {})
    return [name for options in session.get("provider_options", []) for name in options]


def key_value_bytes(config: Mapping[str, Any]) -> int | None:
    """Bytes of keys and values for a full context in float32, as on a CPU; None where the settings do not tell."""
    model = config["model"]
    try:
        sizes = [int(model["decoder"][key]) for key in ("num_key_value_heads", "head_size", "num_hidden_layers")]
        heads, size, layers = sizes
        return 2 * layers * heads * size * int(model["context_length"]) * 4
    except (KeyError, TypeError):
        return None

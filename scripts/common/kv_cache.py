"""How large the cache of keys and values is, by what a config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What one size is called, by most families first, then by GPT-2's.
_LAYERS, _WIDTH = ("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd")
_HEADS = ("num_attention_heads", "n_head")
#: Layers of these kinds (`layer_types`) keep a state of a fixed size instead.
_STATEFUL = ("linear_attention", "conv", "mamba", "recurrent")


def bytes_per_token(config: Mapping[str, Any]) -> int | None:
    """Bytes that one token takes, in float32 as on a CPU: 2 × layers × key-value heads × head size × 4.

    The runtime sets them aside for the whole context at once. None where the config does not tell.
    """
    text = config.get("text_config")
    settings = text if isinstance(text, dict) else config
    layers, heads, width = (_size(settings, *names) for names in (_LAYERS, _HEADS, _WIDTH))
    if not layers or not heads or not width:
        return None
    kinds = settings.get("layer_types")
    if isinstance(kinds, list):
        layers -= sum(kind in _STATEFUL for kind in kinds)
    size = _size(settings, "head_dim") or width // heads
    groups = settings.get("num_key_value_heads")
    if isinstance(groups, list):  # one number for each layer
        return 2 * sum(number for number in groups if type(number) is int) * size * 4
    return 2 * layers * (_size(settings, "num_key_value_heads") or heads) * size * 4


def _size(settings: Mapping[str, Any], *names: str) -> int:
    return next((settings[name] for name in names if type(settings.get(name)) is int), 0)

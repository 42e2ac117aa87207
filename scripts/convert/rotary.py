"""Rotary embeddings in the words of the builder, and its tables as transformers computes them.

Builder 0.18 has a table for some kinds of scaling in some of its classes. Where it has none, or an inexact one, it is
shown plain rotary embeddings, and the tables that it then makes are replaced by transformers' own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any


def architecture(config: Any) -> str:
    """The class that a transformers config names."""
    return str(config.architectures[0])


def parameters(config: Any) -> dict[str, Any]:
    """`rope_parameters` of the text model."""
    return dict(getattr(config.get_text_config(), "rope_parameters", None) or {})


def kinds(config: Any) -> set[str]:
    """The kinds of rotary embedding that a config names: one, or one for each kind of layer."""
    rope = parameters(config)
    tables = [table for table in rope.values() if isinstance(table, dict)] or [rope]
    return {str(table.get("rope_type", "default")) for table in tables if table}


#: What the builder computes as transformers does, by its class.
_EXACT = {
    "llama3": ("LlamaForCausalLM", "SmolLM3ForCausalLM", "NemotronForCausalLM"),
    "longrope": ("Phi3ForCausalLM",),
    "dynamic": ("HunYuanDenseV1ForCausalLM",),
    "yarn": ("GptOssForCausalLM",),
}


def _is_nested(config: Any) -> bool:
    return any(isinstance(table, dict) for table in parameters(config).values())


def switches(config: Any) -> bool:
    """Whether the builder writes LongRoPE's two tables, of short texts and of long ones: Phi 3's class alone does, and
    only where the context goes beyond the original one.
    """
    return architecture(config) == "Phi3ForCausalLM" and original_context(config) < config.max_position_embeddings


def wants_tables(config: Any) -> bool:
    if "proportional" in kinds(config):
        return False  # Gemma 4's own class makes both of its tables
    if "longrope" in kinds(config) and not switches(config):
        return True
    return _is_nested(config) or any(
        architecture(config) not in _EXACT.get(kind, ()) for kind in kinds(config) - {"default"}
    )


def _key(rope: dict[str, Any], kind: str) -> str:
    """The kind of layer whose table holds for `kind`: families but Gemma 3 have one table, under whatever name."""
    return kind if kind in rope else next(name for name, table in rope.items() if isinstance(table, dict))


def show_plain(config: Any) -> None:
    """Have the builder see plain rotary embeddings, whose tables are then replaced."""
    text = config.get_text_config()
    rope = parameters(config)
    if _is_nested(config):
        # Gemma 3's class of the builder wants the two bases as transformers 4 spelt them.
        local, rope = rope[_key(rope, "sliding_attention")], rope[_key(rope, "full_attention")]
        text.rope_theta = config.rope_theta = rope["rope_theta"]
        text.rope_local_base_freq = config.rope_local_base_freq = local["rope_theta"]
    kept = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor", "mrope_section") if key in rope}
    text.rope_parameters = {**kept, "rope_type": "default"}


def tables(truth: Any, original: Callable[[Any], Any], model: Any) -> Any:  # noqa: ARG001
    """cos and sin [positions, rotary dimensions] of `truth`, a text config, as transformers computes them."""
    import torch

    layer_type = None
    if any(isinstance(table, dict) for table in truth.rope_parameters.values()):
        # Gemma 3's class makes the global tables first, and names the local ones before it makes them.
        wanted = "sliding_attention" if hasattr(model, "cos_cache_local_name") else "full_attention"
        layer_type = _key(truth.rope_parameters, wanted)
    frequencies, scaling = inverse_frequencies(truth, layer_type)
    positions = torch.arange(model.rope_attrs["cache_length"], dtype=torch.int64).float()
    angles = torch.outer(positions, frequencies)
    both = torch.cat((angles, angles), dim=-1)
    return both.cos() * scaling, both.sin() * scaling


def inverse_frequencies(truth: Any, layer_type: str | None = None) -> tuple[Any, float]:
    """Inverse frequencies [rotary dimensions / 2] of `truth`, a text config, and the factor of cos and sin, as
    transformers computes them up to the original context; of nested tables, those of the kind of layer `layer_type`.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = truth.rope_parameters[layer_type] if layer_type else truth.rope_parameters
    kind = rope.get("rope_type", "default")
    if kind == "default":
        # There is no function of that name; one of the others, at a factor of 1, is the plain embedding.
        plain = copy.deepcopy(truth)
        (plain.rope_parameters[layer_type] if layer_type else plain.rope_parameters).update(
            rope_type="linear", factor=1.0
        )
        truth, kind = plain, "linear"
    frequencies, scaling = ROPE_INIT_FUNCTIONS[kind](truth, layer_type=layer_type)
    return frequencies, float(scaling)


def name_longrope(config: Any) -> None:
    """Spell LongRoPE as the builder reads it, with the scaling that transformers computes."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    text = config.get_text_config()
    _, scaling = ROPE_INIT_FUNCTIONS["longrope"](copy.deepcopy(text))
    text.rope_parameters = {**parameters(config), "type": "longrope", "short_mscale": scaling, "long_mscale": scaling}


def forget_original_context(config: Any) -> None:
    config.original_max_position_embeddings = config.max_position_embeddings


def original_context(config: Any) -> int:
    """How many tokens the model was trained on before its positions were scaled: the fewest of what its tables say."""
    rope, key = parameters(config), "original_max_position_embeddings"
    named = [int(table[key]) for table in (rope, *rope.values()) if isinstance(table, dict) and key in table]
    return min([*named, int(config.get_text_config().max_position_embeddings)])


def keep_to_original_context(config: Any) -> None:
    config.get_text_config().max_position_embeddings = original_context(config)

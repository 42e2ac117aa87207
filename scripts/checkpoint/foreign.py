"""Keys of a config.json that its class does not have, and that some reader of it takes at their word all the same.

A Llama whose config says `sliding_window` or `final_logit_softcapping` (it was made from a Qwen, or named anew by hand)
was trained without either: its class in transformers reads no such key. The builder asks every config for them,
whatever the class, and transformers' own cache of keys and values asks for three. So they are left out, and it is said.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
import sys
from typing import Any

_SHARE = "partial_rotary_factor"
#: What builder 0.18 (`builders/base.py`), mobius (of GPT-2's heads), transformers' cache (`cache_utils.py`) or Ingot
#: ask for in any config.
ASKED = (
    "attention_chunk_size",
    "attn_logit_softcapping",
    "ffn_hidden_size",
    "final_logit_softcapping",
    "head_dim",
    "hidden_activation",
    "intermediate_size",
    "layer_types",
    "linear_conv_kernel_dim",
    "linear_key_head_dim",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_value_head_dim",
    "moe_intermediate_size",
    "multi_query_group_num",
    "num_experts",
    "num_experts_per_tok",
    "num_key_value_heads",
    "num_local_experts",
    _SHARE,
    "rms_norm_eps",
    "rope_embedding_base",
    "rope_position_scale",
    "seq_length",
    "sliding_window",
    "swiglu_limit",
    "use_sliding_window",
)


#: What a class's source names and the class does nothing with: Gemma 3's attention is not told, and its class with
#: eyes leaves its logits as they are.
_UNUSED = {
    "Gemma3ForCausalLM": ("attn_logit_softcapping",),
    "Gemma3ForConditionalGeneration": ("attn_logit_softcapping", "final_logit_softcapping"),
}


def forget(raw: dict[str, Any], config: Any, kind: type) -> list[str]:
    """Take such keys out of `raw`, a parsed config.json; `config` is transformers' reading of it, `kind` the class of
    the model. Returns the keys that said something, dotted where they are nested.
    """
    text = config.get_text_config()
    source = _source(kind, text)
    unread = [key for key in ASKED if key not in _fields(text) and not _reads(source, key)]
    nested = raw.get("text_config")
    tables = [("", raw)] if not isinstance(nested, dict) else [("", raw), ("text_config.", nested)]
    found = []
    for prefix, table in tables:
        outer = not prefix and isinstance(nested, dict)
        keys = [key for key in ASKED if key not in _fields(config)] if outer else list(unread)
        keys += [key for key in _UNUSED.get(kind.__name__, ()) if table.get(key) is not None]
        found += [f"{prefix}{key}" for key in keys if table.pop(key, None) is not None]
        for name in ("rope_parameters", "rope_scaling"):
            if _SHARE in unread and _pop_share(table.get(name)):
                found.append(f"{prefix}{name}.{_SHARE}")
    return found


def only_own(config: Any, kind: type) -> Any:
    """A copy of the text config `config` with what its class has or the model's class `kind` reads, and no more."""
    own, source, copied = vars(type(config)()), _source(kind, config), copy.deepcopy(config)
    for key in set(vars(copied)) - set(own) - _fields(config):
        if not _reads(source, key):
            delattr(copied, key)
    return copied


def _source(kind: type, text: Any) -> str:
    """The source of a model's class, and of the text model's where that is another family's."""
    names = (kind.__module__, type(text).__module__.replace(".configuration_", ".modeling_"))
    return "".join(inspect.getsource(sys.modules[name]) for name in dict.fromkeys(names) if name in sys.modules)


def _reads(source: str, key: str) -> bool:
    return bool(re.search(rf'config\.{key}\b|"{key}"', source))


def _pop_share(rope: Any) -> bool:
    """Take the share out of one rotary table, or out of that of each kind of layer.

    The class alone reads it of plain embeddings; of all other kinds, transformers' functions for them do.
    """
    if not isinstance(rope, dict):
        return False
    inside = [_pop_share(table) for table in rope.values()]
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        return any(inside)
    return rope.pop(_SHARE, None) is not None or any(inside)


def _fields(config: Any) -> set[str]:
    aliases = config.attribute_map
    return {field.name for field in dataclasses.fields(config)} | set(aliases) | set(aliases.values())

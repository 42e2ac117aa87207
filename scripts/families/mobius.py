"""What the second exporter, mobius-onnx, makes rightly: families that the builder lacks, and some that both have.

Mobius knows some 270 model types and ends well for all that it has a graph for, whether the graph is right or not. So
only those stand here whose export was seen to be exact, with the traits that it leaves out. Like the builder's list,
it is cut down to what is installed, read from the source without importing it.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scripts.common.errors import IngotError

#: Architecture → its model type in transformers and mobius.
FAMILIES = {
    "ApertusForCausalLM": "apertus",
    "ArceeForCausalLM": "arcee",
    "Cohere2ForCausalLM": "cohere2",
    "CohereForCausalLM": "cohere",
    "Exaone4ForCausalLM": "exaone4",
    "FlexOlmoForCausalLM": "flex_olmo",
    "GPT2LMHeadModel": "gpt2",
    "GPTBigCodeForCausalLM": "gpt_bigcode",
    "GPTNeoXForCausalLM": "gpt_neox",
    "GraniteForCausalLM": "granite",
    "GraniteMoeForCausalLM": "granitemoe",
    "HeliumForCausalLM": "helium",
    "JetMoeForCausalLM": "jetmoe",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "OPTForCausalLM": "opt",
    "Olmo2ForCausalLM": "olmo2",
    "Olmo3ForCausalLM": "olmo3",
    "OlmoForCausalLM": "olmo",
    "OlmoeForCausalLM": "olmoe",
    "Phi3ForCausalLM": "phi3",
    "PhiForCausalLM": "phi",
    "PhimoeForCausalLM": "phimoe",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "SmolLM3ForCausalLM": "smollm3",
    "Starcoder2ForCausalLM": "starcoder2",
}
#: Architecture → key of its config → the one value that mobius makes; it leaves out what another one asks for.
ONLY: dict[str, dict[str, Any]] = {
    "ApertusForCausalLM": {"hidden_act": "xielu"},
    "ArceeForCausalLM": {"mlp_bias": False},
    "CohereForCausalLM": {"use_qk_norm": False},
    "GPT2LMHeadModel": {
        "add_cross_attention": False,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
    },
    "GPTBigCodeForCausalLM": {"add_cross_attention": False, "multi_query": True, "scale_attn_weights": True},
    "GPTNeoXForCausalLM": {"use_parallel_residual": True},
    "HeliumForCausalLM": {"attention_bias": False, "mlp_bias": False},
    "OPTForCausalLM": {
        "_remove_final_layer_norm": False,
        "do_layer_norm_before": True,
        "enable_bias": True,
        "layer_norm_elementwise_affine": True,
    },
    "OlmoeForCausalLM": {"sliding_window": None},
    "PhiForCausalLM": {"qk_layernorm": False},
    "Qwen2MoeForCausalLM": {"decoder_sparse_step": 1, "mlp_only_layers": [], "qkv_bias": True},
    "Qwen3MoeForCausalLM": {"decoder_sparse_step": 1, "mlp_only_layers": []},
}
#: Activations that it has nodes for, beside those of a family's own.
ACTIVATIONS = (
    "silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2", "xielu",
)  # fmt: skip
LAYERS = ("full_attention", "sliding_attention", "attention")


@cache
def installed() -> frozenset[str]:
    """The model types that the installed mobius registers, from its source: importing it takes seconds.

    Raises `IngotError` where it is not installed.
    """
    spec = importlib.util.find_spec("mobius")
    if spec is None or spec.origin is None:
        raise IngotError("mobius-onnx", "is not installed", "Run `make setup`")
    source = (Path(spec.origin).parent / "_registry.py").read_text(encoding="utf-8")
    return frozenset(re.findall(r'^    "([\w-]+)": ModelRegistration\(', source, re.MULTILINE))


def architectures() -> frozenset[str]:
    """Every architecture that it makes rightly."""
    return frozenset(name for name, kind in FAMILIES.items() if kind in installed())


def left_out(name: str, config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Key and value of what in this config mobius leaves out of the graph of the family `name`."""
    only = {"clip_qkv": None, "is_causal": True, **ONLY.get(name, {})}
    if name == "JetMoeForCausalLM":
        # Its heads are those of keys for each expert that is chosen, whatever num_attention_heads says.
        sizes = [config.get(key) for key in ("hidden_size", "num_key_value_heads", "num_experts_per_tok")]
        width, heads, chosen = (size if isinstance(size, int) and size > 0 else 1 for size in sizes)
        only["kv_channels"] = width // (heads * chosen)
    if config.get("word_embed_proj_dim"):
        only["word_embed_proj_dim"] = config.get("hidden_size")
    return [(key, config[key]) for key, made in only.items() if config.get(key) not in (made, None)]

"""Tiny checkpoints of every family, with random weights that have an opinion.

A freshly made model gives nearly the same probability to every token, whatever its attention does: a fault in a window
or a rotary table hides. Here every matrix is scaled so that each layer changes its input, and norms and biases are away
from one and zero, so that a norm that is taken for another kind shows.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import tiny

#: Long enough for windows and original contexts well inside it.
CONTEXT = 1024
WINDOW = 64
#: Of the next token, nats, on average: 576 tokens that are all alike have 6.4.
ENTROPY = 2.0


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint: its transformers model type, what its config says beside the common sizes.

    `kind` is None where only `architecture` names the class. `nested` puts the sizes into `text_config`. `reason`:
    why it is refused, where it is. `kl`: what the export may differ from transformers at most, in nats.
    """

    architecture: str
    kind: str
    traits: dict[str, Any] = field(default_factory=dict)
    nested: dict[str, Any] | None = None
    dtype: str = "bfloat16"
    tied: bool = False
    sizes: dict[str, Any] = field(default_factory=dict)
    kl: float = 1e-3
    refused: str = ""


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": CONTEXT // 4, "rope_theta": 10000.0}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0 + 0.01 * i for i in range(16)],
    "long_factor": [1.0 + 0.3 * i for i in range(16)],
    "rope_theta": 10000.0,
    "original_max_position_embeddings": CONTEXT // 4,
}
#: Its queries are scaled from the original context on, where the package's context ends.
MINISTRAL = {
    "max_position_embeddings": 4 * CONTEXT,
    "rope_parameters": YARN
    | {"original_max_position_embeddings": CONTEXT, "beta_fast": 32.0, "beta_slow": 1.0, "llama_4_scaling_beta": 0.1},
}
LAYERS = ["sliding_attention", "full_attention"]
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
GEMMA_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
}
GEMMA3 = {
    "hidden_size": 320,
    "sliding_window": WINDOW,
    "layer_types": LAYERS,
    "query_pre_attn_scalar": 32,
    "rope_parameters": GEMMA_ROPE,
}
GEMMA4 = {
    "hidden_size": 320,
    "sliding_window": WINDOW,
    "layer_types": LAYERS,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": tiny.VOCAB,
    "global_head_dim": 64,
    "num_global_key_value_heads": 2,
    "attention_k_eq_v": True,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1000000.0},
    },
}
EXPERTS = {"moe_intermediate_size": 128, "num_experts": 4, "num_experts_per_tok": 2}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
#: GPT-NeoX rotates a quarter of a head's numbers, and the kernels take multiples of 16.
WIDE_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [3, 3, 2],
        "mrope_interleaved": True,
        "partial_rotary_factor": 0.5,
    },
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 4, 4]}
VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}

FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", "llama", tied=True),
    "llama 3": Family(
        "LlamaForCausalLM",
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": CONTEXT // 4,
                "rope_theta": 10000.0,
            }
        },
    ),
    "llama, linear": Family("LlamaForCausalLM", "llama", {"rope_parameters": LINEAR}),
    "llama, dynamic": Family(
        "LlamaForCausalLM", "llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}}
    ),
    "llama, yarn": Family(
        "LlamaForCausalLM", "llama", {"rope_parameters": YARN | {"beta_fast": 32.0, "beta_slow": 1.0}}
    ),
    "llama, longrope": Family(
        "LlamaForCausalLM", "llama", {"rope_parameters": LONG | {"original_max_position_embeddings": CONTEXT // 2}}
    ),
    "qwen2": Family("Qwen2ForCausalLM", "qwen2", tied=True),
    "qwen2, yarn": Family("Qwen2ForCausalLM", "qwen2", {"rope_parameters": YARN}),
    "qwen2, window": Family(
        "Qwen2ForCausalLM", "qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    ),
    "qwen3": Family("Qwen3ForCausalLM", "qwen3", tied=True),
    "qwen3, yarn": Family("Qwen3ForCausalLM", "qwen3", {"rope_parameters": YARN}),
    "phi": Family("PhiForCausalLM", "phi", {"partial_rotary_factor": 0.5}),
    "phi3": Family("Phi3ForCausalLM", "phi3", {"sliding_window": WINDOW, "original_max_position_embeddings": CONTEXT}),
    "phi3, longrope": Family(
        "Phi3ForCausalLM",
        "phi3",
        {"rope_parameters": LONG, "sliding_window": None, "original_max_position_embeddings": CONTEXT // 4},
    ),
    "phi3, longrope as published": Family(
        "Phi3ForCausalLM",
        "phi3",
        {
            "rope_parameters": LONG | {"type": "longrope"},
            "sliding_window": None,
            "original_max_position_embeddings": CONTEXT // 4,
        },
    ),
    "mistral": Family("MistralForCausalLM", "mistral", {"sliding_window": None}),
    "mistral, window": Family("MistralForCausalLM", "mistral", {"sliding_window": WINDOW}),
    "mistral, window beyond the text": Family("MistralForCausalLM", "mistral", {"sliding_window": 512}),
    "mistral, window beyond the context": Family("MistralForCausalLM", "mistral", {"sliding_window": 4 * CONTEXT}),
    "ministral": Family("MinistralForCausalLM", "ministral", {"sliding_window": WINDOW, "layer_types": LAYERS}),
    "ministral 3": Family(
        "Ministral3ForCausalLM",
        "ministral3",
        MINISTRAL,
    ),
    "seed-oss": Family("SeedOssForCausalLM", "seed_oss"),
    "granite": Family(
        "GraniteForCausalLM",
        "granite",
        {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2},
    ),
    "granite 4": Family(
        "GraniteMoeHybridForCausalLM",
        "granitemoehybrid",
        {
            "layer_types": ["attention"] * 2,
            "num_local_experts": 0,
            "shared_intermediate_size": 384,
            "position_embedding_type": "rope",
            "attention_multiplier": 0.2,
        },
    ),
    "granite 4, mamba": Family(
        "GraniteMoeHybridForCausalLM",
        "granitemoehybrid",
        {
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 384,
            "mamba_n_heads": 8,
            "mamba_d_head": 64,
        },
        refused="linear_attention",
    ),
    "hunyuan": Family("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense"),
    "lfm2": Family(
        "Lfm2ForCausalLM", "lfm2", {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
    ),
    "lfm2, experts": Family(
        "Lfm2MoeForCausalLM", "lfm2_moe", EXPERTS | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1}
    ),
    "gemma": Family(
        "GemmaForCausalLM", "gemma", {"hidden_activation": "gelu_pytorch_tanh", "hidden_size": 320}, tied=True
    ),
    "gemma 2": Family(
        "Gemma2ForCausalLM",
        "gemma2",
        {"hidden_size": 320, "sliding_window": WINDOW, "layer_types": LAYERS, "query_pre_attn_scalar": 32},
        tied=True,
    ),
    "gemma 3": Family("Gemma3ForCausalLM", "gemma3_text", GEMMA3, tied=True),
    "gemma 3, nested": Family(
        "Gemma3ForConditionalGeneration",
        "gemma3",
        GEMMA3,
        nested={"vision_config": VISION | {"image_size": 28, "patch_size": 14}},
        tied=True,
    ),
    "gemma 4, text": Family("Gemma4ForCausalLM", "gemma4_text", GEMMA4, tied=True),
    "gemma 4": Family(
        "Gemma4ForConditionalGeneration",
        "gemma4",
        GEMMA4,
        nested={
            "audio_config": None,
            "vision_config": VISION | {"num_key_value_heads": 2, "head_dim": 32},
        },
        tied=True,
    ),
    "gemma 4, unified": Family("Gemma4UnifiedForConditionalGeneration", "gemma4_unified", GEMMA4, nested={}, tied=True),
    "gemma 4, unified text": Family("Gemma4UnifiedForCausalLM", "gemma4_unified_text", GEMMA4, tied=True),
    "gemma 4, per-layer embeddings": Family(
        "Gemma4ForCausalLM",
        "gemma4_text",
        GEMMA4 | {"hidden_size_per_layer_input": 32},
        tied=True,
        refused="hidden_size_per_layer_input",
    ),
    "gpt-oss": Family(
        "GptOssForCausalLM",
        "gpt_oss",
        {
            "sliding_window": WINDOW,
            "layer_types": LAYERS,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": YARN | {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
        },
    ),
    "smollm3": Family("SmolLM3ForCausalLM", "smollm3", {"no_rope_layers": [1, 0]}),
    "olmo": Family("OlmoForCausalLM", "olmo"),
    "olmo, clipped": Family("OlmoForCausalLM", "olmo", {"clip_qkv": 0.5}, refused="clip_qkv"),
    "nemotron": Family("NemotronForCausalLM", "nemotron", {"partial_rotary_factor": 0.5}),
    "ernie": Family("Ernie4_5ForCausalLM", "ernie4_5"),
    "qwen3.5": Family(
        "Qwen3_5ForConditionalGeneration",
        "qwen3_5",
        DELTA,
        nested={
            "vision_config": {
                "depth": 1,
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_heads": 2,
                "out_hidden_size": 256,
            }
        },
    ),
    "qwen3.5, text": Family("Qwen3_5ForCausalLM", "qwen3_5_text", DELTA),
    "qwen3.5, experts": Family(
        "Qwen3_5MoeForConditionalGeneration",
        "qwen3_5_moe",
        DELTA | EXPERTS | {"shared_expert_intermediate_size": 128},
        nested={
            "vision_config": {
                "depth": 1,
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_heads": 2,
                "out_hidden_size": 256,
            }
        },
    ),
    "qwen2.5-vl": Family(
        "Qwen2_5_VLForConditionalGeneration",
        "qwen2_5_vl",
        {"rope_parameters": MROPE},
        nested={
            "vision_config": {
                "depth": 1,
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_heads": 2,
                "out_hidden_size": 256,
                "fullatt_block_indexes": [0],
            }
        },
    ),
    "qwen3-vl": Family(
        "Qwen3VLForConditionalGeneration",
        "qwen3_vl",
        {"rope_parameters": MROPE | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}},
        nested={
            "vision_config": {
                "depth": 1,
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_heads": 2,
                "out_hidden_size": 256,
                "deepstack_visual_indexes": [0],
            }
        },
    ),
    "mistral 3": Family(
        "Mistral3ForConditionalGeneration",
        "mistral3",
        {"model_type": "mistral", "sliding_window": None},
        nested={
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "head_dim": 32,
                "image_size": 28,
                "patch_size": 14,
            }
        },
    ),
    "mistral 3, ministral 3": Family(
        "Mistral3ForConditionalGeneration",
        "mistral3",
        MINISTRAL | {"model_type": "ministral3"},
        nested={
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "head_dim": 32,
                "image_size": 28,
                "patch_size": 14,
            }
        },
    ),
    "lfm2-vl": Family(
        "Lfm2VlForConditionalGeneration",
        "lfm2_vl",
        {"model_type": "lfm2", "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
        nested={"vision_config": VISION | {"model_type": "siglip2_vision_model", "num_patches": 16, "patch_size": 14}},
    ),
    "qwen3-moe": Family("Qwen3MoeForCausalLM", "qwen3_moe", EXPERTS),
    "qwen3-moe, window": Family(
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        EXPERTS | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "qwen3-moe, dynamic": Family(
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        EXPERTS | {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}},
    ),
    "qwen3-moe, longrope": Family(
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        EXPERTS | {"rope_parameters": LONG | {"original_max_position_embeddings": CONTEXT // 2}},
    ),
    "qwen3-moe, dense layer": Family(
        "Qwen3MoeForCausalLM", "qwen3_moe", EXPERTS | {"mlp_only_layers": [0]}, refused="mlp_only_layers"
    ),
    "qwen2-moe": Family("Qwen2MoeForCausalLM", "qwen2_moe", EXPERTS | {"shared_expert_intermediate_size": 128}),
    "mixtral": Family("MixtralForCausalLM", "mixtral", LOCAL_EXPERTS | {"sliding_window": WINDOW}),
    "phi moe": Family("PhimoeForCausalLM", "phimoe", LOCAL_EXPERTS | {"sliding_window": None}),
    "phi moe, longrope": Family(
        "PhimoeForCausalLM",
        "phimoe",
        LOCAL_EXPERTS
        | {
            "sliding_window": None,
            "lm_head_bias": True,
            "attention_bias": True,
            "rope_parameters": LONG
            | {"original_max_position_embeddings": CONTEXT // 2, "short_mscale": 1.1, "long_mscale": 1.2},
        },
    ),
    "olmoe": Family("OlmoeForCausalLM", "olmoe", LOCAL_EXPERTS | {"num_experts": 4}),
    "flex olmo": Family("FlexOlmoForCausalLM", "flex_olmo", LOCAL_EXPERTS | {"num_experts": 4}),
    "jetmoe": Family("JetMoeForCausalLM", "jetmoe", LOCAL_EXPERTS | {"kv_channels": 32}),
    "granite moe": Family(
        "GraniteMoeForCausalLM",
        "granitemoe",
        LOCAL_EXPERTS
        | {
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
        },
    ),
    "olmo 2": Family("Olmo2ForCausalLM", "olmo2", tied=True),
    "olmo 2, yarn": Family("Olmo2ForCausalLM", "olmo2", {"rope_parameters": YARN}),
    "olmo 3": Family(
        "Olmo3ForCausalLM",
        "olmo3",
        {
            "sliding_window": WINDOW,
            "layer_types": LAYERS,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": YARN | {"beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.2},
            },
        },
    ),
    "exaone 4": Family("Exaone4ForCausalLM", "exaone4", {"sliding_window": WINDOW, "layer_types": LAYERS}),
    "cohere": Family("CohereForCausalLM", "cohere", {"logit_scale": 0.5}, tied=True),
    "cohere 2": Family(
        "Cohere2ForCausalLM",
        "cohere2",
        {"sliding_window": WINDOW, "layer_types": LAYERS, "logit_scale": 0.5},
        tied=True,
    ),
    "helium": Family("HeliumForCausalLM", "helium"),
    "starcoder 2": Family("Starcoder2ForCausalLM", "starcoder2", {"sliding_window": WINDOW}),
    "arcee": Family("ArceeForCausalLM", "arcee"),
    "apertus": Family("ApertusForCausalLM", "apertus"),
    "gpt-neox": Family("GPTNeoXForCausalLM", "gpt_neox", {"hidden_act": "gelu"}, sizes=WIDE_HEADS),
    "gpt-neox, sequential": Family(
        "GPTNeoXForCausalLM",
        "gpt_neox",
        {"use_parallel_residual": False},
        sizes=WIDE_HEADS,
        refused="use_parallel_residual",
    ),
    "gpt-neox, few rotated": Family("GPTNeoXForCausalLM", "gpt_neox", refused="partial_rotary_factor = 0.25"),
    "gpt-2": Family("GPT2LMHeadModel", "gpt2", {"n_inner": 384}, tied=True, sizes={"num_key_value_heads": 8}),
    "gpt bigcode": Family(
        "GPTBigCodeForCausalLM", "gpt_bigcode", {"n_inner": 384}, tied=True, sizes={"num_key_value_heads": 1}
    ),
    "opt": Family(
        "OPTForCausalLM",
        "opt",
        {"ffn_dim": 384, "word_embed_proj_dim": 256},
        tied=True,
        sizes={"num_key_value_heads": 8},
    ),
}


def sizes(family: Family) -> dict[str, Any]:
    """What every checkpoint here shares."""
    return {
        "vocab_size": tiny.VOCAB,
        "hidden_size": 256,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": family.tied,
        **family.sizes,
    }


def make(
    name: str,
    folder: Path,
    *,
    tokenizer: Any = None,
    dtype: str | None = None,
    float_vectors: bool = False,
    **changes: Any,
) -> Path:
    """Write the checkpoint of the family `name`; `changes` are for its config, or its text part's.

    `float_vectors`: norms and biases stay float32 beside matrices of `dtype`.
    """
    import torch
    import transformers

    family = FAMILIES[name]
    text = {**sizes(family), **json.loads(json.dumps(family.traits)), **changes}
    if family.nested is None:
        config = transformers.AutoConfig.for_model(family.kind, **text)
    else:
        ids = {key: text[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings")}
        config = transformers.AutoConfig.for_model(
            family.kind, text_config=text, **json.loads(json.dumps(family.nested)), **ids
        )
    config.architectures = [family.architecture]
    loader = transformers.AutoModelForCausalLM if family.nested is None else transformers.AutoModelForImageTextToText
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = loader.from_config(config, dtype=torch.float32)
        sharpen(model)
    for parameter in (*model.parameters(), *model.buffers()):
        if parameter.is_floating_point() and not (float_vectors and parameter.ndim < 2):
            parameter.data = parameter.data.to(getattr(torch, dtype or family.dtype))
    tiny._save(model, tokenizer or tiny.make_tokenizer(), folder)
    return folder


def sharpen(model: Any) -> None:
    """Scale random weights so that every layer matters and the logits differ."""
    import torch

    text = model.config.get_text_config()
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied, gemma = head is embedding, text.model_type.startswith("gemma")
    # Gemma multiplies embeddings by the root of the hidden size: its layers must weigh as much, or nothing shows.
    louder = float(text.hidden_size) ** 0.5 * 0.35 if gemma else 1.0
    # Granite multiplies them too, and what layers add.
    multiplied = getattr(text, "embedding_multiplier", 1.0) / getattr(text, "residual_multiplier", 1.0)
    with torch.no_grad():
        for name, scalar in model.named_buffers():
            if name.endswith("layer_scalar"):
                scalar.fill_(0.7)
        for name, weight in model.named_parameters():
            if weight is embedding:
                weight.normal_(std=(0.15 if gemma else 0.35 if tied else 1.0) / multiplied)
            elif weight is head:
                weight.normal_(std=5.0 / weight.shape[1] ** 0.5)
            elif weight.ndim < 2:
                if name.rsplit(".", 1)[-1] not in ("A_log", "dt_bias"):
                    weight.add_(torch.randn_like(weight) * (0.3 if "norm" in name else 0.1))
                if re.search(r"\.(q|k|query|key)_(layer)?norm\.weight$", name):
                    weight.add_(0.7)
                if gemma and ("post_feedforward" in name or ("post_attention" in name and text.model_type != "gemma")):
                    weight.add_(louder)
            elif weight.ndim == 2:
                loud = louder if text.model_type == "gemma" and ("o_proj" in name or "down_proj" in name) else 1.0
                weight.normal_(std=1.5 * loud / weight.shape[1] ** 0.5)
            else:
                weight.normal_(std=1.0 / (weight[0].numel() / weight.shape[-2 if weight.ndim > 2 else -1]) ** 0.5)
        _settle_entropy(model)


def _settle_entropy(model: Any) -> None:
    """Scale what the output head is given until the next token has `ENTROPY` nats of it, on average."""
    import torch

    ids = torch.tensor([tiny.make_tokenizer()(tiny.TEXT)["input_ids"]])
    logits = model(input_ids=ids, use_cache=False).logits[0].double()
    low, high = 1e-3, 1e3
    for _ in range(40):
        factor = (low * high) ** 0.5
        found = torch.distributions.Categorical(logits=logits * factor).entropy().mean()
        low, high = (factor, high) if found > ENTROPY else (low, factor)
    norm = _last_norm(model)
    if getattr(norm, "weight", None) is None:  # OLMo's has none
        model.get_output_embeddings().weight.mul_(factor)
        return
    offset = _offset(norm)
    norm.weight.copy_((norm.weight + offset) * factor - offset)
    if getattr(norm, "bias", None) is not None:
        norm.bias.mul_(factor)


def _last_norm(model: Any) -> Any:
    """The norm before the output head."""
    found = [module for name, module in model.get_decoder().named_children() if "Norm" in type(module).__name__]
    return found[-1]


def _offset(norm: Any) -> float:
    """What a norm adds to its weight: 1 for Gemma's, 0 for most."""
    import torch

    kept = norm.weight.clone()
    norm.weight.zero_()
    ones = torch.linspace(-1, 1, len(kept))
    found = 1.0 if (norm(ones) - (0.0 if getattr(norm, "bias", None) is None else norm.bias)).abs().max() > 0 else 0.0
    norm.weight.copy_(kept)
    return found


def make_mxfp4(folder: Path) -> Path:
    """gpt-oss as it is published: its experts in blocks of 32 four-bit floats that share an exponent."""
    import torch
    from safetensors.torch import load_file, save_file

    make("gpt-oss", folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj")) and "experts" in name]:
        experts, inputs, outputs = tensors.pop(name).shape
        shape = (experts, outputs, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=generator)
        tensors[f"{name}_scales"] = torch.randint(121, 124, shape, dtype=torch.uint8, generator=generator)
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": skipped}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder

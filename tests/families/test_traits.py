"""What a config says is computed, refused by its name, or left out aloud where the model's class does not read it."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.checkpoint import foreign
from scripts.checkpoint.build import build
from scripts.checkpoint.sources import Source
from scripts.common.errors import IngotError
from scripts.families import mobius, supported
from scripts.results import remarks
from tests.families import checkpoints, measure


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What a Llama's class does not read, and the builder or transformers' cache would.
FOREIGN = {
    "attention_chunk_size": 64,
    "attn_logit_softcapping": 20.0,
    "ffn_hidden_size": 512,
    "final_logit_softcapping": 10.0,
    "hidden_activation": "relu",
    "layer_types": ["sliding_attention", "full_attention"],
    "moe_intermediate_size": 128,
    "num_experts": 4,
    "num_local_experts": 4,
    "rope_position_scale": 0.5,
    "seq_length": 512,
    "sliding_window": 64,
    "swiglu_limit": 1.0,
    "use_sliding_window": True,
}
#: What no class here reads: a remark is owed for none of them.
IDLE = {
    "logit_scale": 0.3,
    "use_alibi": True,
    "use_qk_norm": True,
    "parallel_attn": True,
    "cross_attention_layers": [1],
}
#: What mobius would take of any config, and the class does not read.
MOBIUS = {"olmo 2": {"mlp_bias": True, "layer_norm_eps": 0.1, "norm_eps": 0.1, "logits_scaling": 3.0}}
#: What the builder asks any config for, and does not have to be a trait of the text model: where it writes text,
#: what of it is nested, and sizes that transformers asks any config for likewise.
NO_TRAITS = _words(
    """diversity_penalty do_sample length_penalty no_repeat_ngram_size num_beams num_return_sequences
    repetition_penalty temperature top_k top_p text_config quantization_config peft_type tie_word_embeddings
    head_dim num_hidden_layers num_key_value_heads rope_parameters rope_scaling rope_theta
    original_max_position_embeddings"""
)
#: Keys that a supported class reads and the builder does not: the numbers of a model in training or of its eyes, sizes
#: and biases that the builder takes from the weights, what a bridge reads, and what `supported` refuses.
TRIED = _words(
    """_attn_implementation attention_dropout embd_pdrop initializer_range inputs_embeds output_router_logits
    pad_token_id resid_pdrop residual_dropout router_aux_loss_coef use_cache get_text_config
    depth downsample_factor fullatt_block_indexes deepstack_visual_indexes image_token_id in_channels
    mm_tokens_per_image multimodal_projector_bias num_heads num_position_embeddings out_hidden_size patch_size
    projector_bias projector_hidden_act projector_hidden_size projector_use_layernorm spatial_merge_size
    temporal_patch_size video_token_id vision_config vision_feature_layer window_size
    attention_bias attention_out_bias mlp_bias use_bias conv_L_cache block_auto_adjust_ff_dim
    block_ffn_dim_multiplier block_multiple_of shared_intermediate_size layers_block_type
    mamba_chunk_size mamba_conv_bias mamba_d_conv mamba_d_head mamba_d_state mamba_expand mamba_n_groups
    audio_config audio_token_id hidden_size_per_layer_input kv_sharing_modes per_layer_config standardize
    use_clipped_linears vocab_size_per_layer_input
    mamba_n_heads mamba_proj_bias time_step_limit swiglu_alpha layer_norm_eps position_embedding_type"""
)


#: What mobius does not read and makes no difference: training, sizes by other names, how and in what type it
#: is computed; biases that a bridge takes from the weights, and a width that is refused where it differs.
UNREAD = _words(
    """attention_softmax_in_fp32 attn_pdrop aux_loss_coef classifier_dropout embedding_dropout hidden_dropout
    input_jitter_noise
    is_decoder layerdrop lm_head_bias router_jitter_noise word_embed_proj_dim n_embd n_layer num_labels problem_type
    reorder_and_upcast_attn residual_dropout scale_attention_softmax_in_fp32 summary_activation summary_first_dropout
    summary_last_dropout summary_proj_to_labels summary_type summary_use_proj"""
)


def builders_source(*names: str) -> str:
    spec = importlib.util.find_spec("onnxruntime_genai")
    assert spec and spec.origin
    folder = Path(spec.origin).parent / "models" / "builders"
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")) if path.stem in names)


def read_by(source: str) -> set[str]:
    """The keys that a source reads of a config."""
    return set(re.findall(r"\bconfig\.(\w+)", source)) | set(re.findall(r'\bconfig, "(\w+)"', source))


def read_by_class(folder: Path) -> set[str]:
    """The keys that transformers' classes of a family read, but for those that hear and see."""
    sources = (source.read_text(encoding="utf-8") for source in folder.glob("modeling_*.py"))
    parts = (part for source in sources for part in re.split(r"^class ", source, flags=re.MULTILINE))
    return read_by("".join(part for part in parts if not re.match(r"\w*(Audio|Vision)", part)))


def test_every_key_that_the_builder_asks_any_config_for_is_known() -> None:
    asked = set(re.findall(r'(?:hasattr|getattr)\(config, "(\w+)"', builders_source("base")))
    assert asked - NO_TRAITS - set(foreign.ASKED) == set()


def test_every_key_that_a_supported_class_reads_was_tried() -> None:
    from transformers.models.auto import modeling_auto

    kinds: dict[str, str] = {}
    for task in ("IMAGE_TEXT_TO_TEXT", "CAUSAL_LM"):
        names = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")
        kinds |= {name: kind for kind, name in names.items() if isinstance(name, str)}
    spec = importlib.util.find_spec("transformers")
    assert spec and spec.origin
    models = Path(spec.origin).parent / "models"
    files = ["base", "ernie", "gemma", "gptoss", "granite", "hunyuan", "lfm2", "llama", "mistral", "nemotron", "olmo"]
    known = read_by(builders_source(*files, "phi", "qwen", "smollm")) | TRIED
    known |= {key for _, key, _ in supported.LEFT_OUT_KEYS} | set(foreign.ASKED)
    strange = {}
    for name in sorted(supported.builders()):
        if found := read_by_class(models / kinds[name].removesuffix("_text")) - known:
            strange[name] = found
    assert strange == {}, strange


def test_every_key_that_mobius_does_not_read_is_refused_or_was_tried() -> None:
    spec, own = importlib.util.find_spec("transformers"), importlib.util.find_spec("mobius")
    assert spec and spec.origin and own and own.origin
    models = Path(spec.origin).parent / "models"
    known = set(
        re.findall(r"\w+", "\n".join(path.read_text("utf-8") for path in Path(own.origin).parent.rglob("*.py")))
    )
    strange = {}
    for name, kind in mobius.FAMILIES.items():
        refused = {key for key, _ in mobius.left_out(name, dict.fromkeys(read_by_class(models / kind), "other"))}
        if found := read_by_class(models / kind) - known - refused - UNREAD - NO_TRAITS - TRIED:
            strange[name] = found
    assert strange == {}, strange


@pytest.mark.parametrize("name", ["llama", "olmo 2", "mistral 3, ministral 3"])
def test_what_the_class_does_not_read_is_left_out_aloud_and_the_model_is_exact(name: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.make(name, tmp_path / "checkpoint")
    file = checkpoint / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    # Mistral has a window, and is refused where layers have one and it is not given.
    own = {"sliding_window", "use_sliding_window", "layer_types"} if name.startswith("mistral") else set()
    strange = {key: value for key, value in FOREIGN.items() if key not in own}
    prefix = "text_config." if "text_config" in config else ""
    (config.get("text_config") or config).update({**strange, **IDLE, **MOBIUS.get(name, {})})
    file.write_text(json.dumps(config), encoding="utf-8")
    result = measure.judged(checkpoint, tmp_path)
    assert result.export.verdict == "passed", result.export.reasons
    said = [remark.text for remark in remarks.read(tmp_path / "prepared")]
    for key in strange:
        assert any(text.startswith(f"{prefix}{key} left out") for text in said), (key, said)
    assert not any(key in text for text in said for key in IDLE)


def test_what_the_class_reads_stays(tmp_path: Path) -> None:
    for name in ("gemma 2", "phi", "lfm2, experts"):
        checkpoint = checkpoints.make(name, tmp_path / name)
        build(Source(path=checkpoint), tmp_path / f"{name} made")
        assert (tmp_path / f"{name} made" / "config.json").is_symlink()


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("phi", {"qk_layernorm": True}, "qk_layernorm"),
        ("phi", {"partial_rotary_factor": 0.25}, "partial_rotary_factor"),
        ("gemma 3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("llama", {"is_causal": False}, "is_causal"),
        ("nemotron", {"mlp_bias": True}, "mlp_bias"),
        ("qwen3.5, text", {"hidden_act": "gelu"}, "hidden_act"),
        ("lfm2", {"conv_bias": True}, "conv_bias"),
        ("lfm2, experts", {"norm_topk_prob": False}, "norm_topk_prob"),
        ("lfm2, experts", {"num_experts_per_tok": 5}, "num_experts_per_tok"),
        ("lfm2", {"layer_types": ["sliding_attention", "full_attention"]}, "sliding_attention"),
        ("helium", {"attention_bias": True}, "attention_bias"),
        ("opt", {"enable_bias": False}, "enable_bias"),
        ("olmoe", {"sliding_window": 64}, "sliding_window"),
        ("qwen2-moe", {"qkv_bias": False}, "qkv_bias"),
        ("jetmoe", {"kv_channels": 64}, "kv_channels"),
        ("mistral", {"sliding_window": 0}, "sliding_window = 0"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 0, "rope_theta": 1e4}}, "factor = 0"),
        ("llama", {"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}}, "proportional"),
        ("olmo 2", {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}}, "each kind"),
        ("gpt-oss", {"rope_parameters": checkpoints.LINEAR}, "rotary embedding linear"),
        ("gpt-oss", {"rope_parameters": {**checkpoints.YARN, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("qwen3-vl", {"head_dim": 48}, "mrope_section"),
        ("gpt-2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt bigcode", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("qwen3", {"layer_types": ["sliding_attention", "full_attention"]}, "sliding_window is not given"),
    ],
)
def test_a_trait_that_cannot_be_built_is_refused_by_its_name(
    name: str, changes: dict[str, Any], word: str, tmp_path: Path
) -> None:
    family = checkpoints.FAMILIES[name]
    config = {"architectures": [family.architecture], **checkpoints.sizes(family), **family.traits, **changes}
    with pytest.raises(IngotError, match=word):
        supported.check(tmp_path / "config.json", {"sliding_window": None, **config})


PART = {**checkpoints.LINEAR, "partial_rotary_factor": 0.5}
TWICE = {**checkpoints.LONG, "original_max_position_embeddings": 512}


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("llama", {"rope_parameters": PART}, "partial_rotary_factor"),
        ("jetmoe", {"rope_parameters": PART}, "partial_rotary_factor"),
        ("qwen3-vl", {"rope_parameters": checkpoints.LINEAR}, "mrope_section"),
        ("phi3, longrope", {"rope_parameters": TWICE}, "rope_parameters.original_max_position_embeddings is 512"),
    ],
)
def test_what_the_class_cannot_compute_is_refused_at_the_door(
    name: str, changes: dict[str, Any], word: str, tmp_path: Path
) -> None:
    checkpoint = checkpoints.make(name, tmp_path / "checkpoint")
    file = checkpoint / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    (config.get("text_config") or config).update(changes)
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(IngotError, match=word):
        build(Source(path=checkpoint), tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gemma 3", {"attn_logit_softcapping": 5.0}),
        ("gemma 3, nested", {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 5.0}),
        ("gemma 3", {"rope_parameters": {**checkpoints.GEMMA_ROPE, "full_attention": checkpoints.LONG}}),
        ("phi3, longrope", {"original_max_position_embeddings": checkpoints.CONTEXT}),
        ("jetmoe", {"rms_norm_eps": 0.01}),
        ("gpt-oss", {"swiglu_alpha": 2.5}),
        ("gpt-oss", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("gemma 3", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("gemma 2", {"query_pre_attn_scalar": 64, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0}),
        ("smollm3", {"sliding_window": 64}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 48}),
        ("seed-oss", {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True}),
        ("ernie", {"use_bias": True}),
        ("lfm2, experts", {"use_expert_bias": False, "routed_scaling_factor": 2.0}),
        ("granite", {"attention_bias": True, "mlp_bias": True}),
        ("granite 4", {"position_embedding_type": "nope"}),
        ("phi", {"layer_norm_eps": 0.01}),
        ("nemotron", {"attention_bias": True, "norm_eps": 0.01}),
        ("qwen3, yarn", {"rope_parameters": {**checkpoints.YARN, "attention_factor": 2.0}}),
        ("mistral, window", {"use_sliding_window": False}),
        ("olmo", {"layer_norm_eps": 0.01, "norm_eps": 0.01}),
        ("lfm2-vl", {"head_dim": 48}),
    ],
)
def test_a_trait_away_from_its_default_is_exact(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    result = measure.judged(checkpoints.make(name, tmp_path / "checkpoint", **changes), tmp_path)
    assert result.export.verdict == "passed", result.export.reasons
    assert result.worst <= measure.GATE

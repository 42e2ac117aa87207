"""The options of the pass ModelBuilder: what a workflow may say, and how ONNX Runtime GenAI's builder 0.18 calls it.

The builder ignores what it does not know, silently; here that is an error, said before anything is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, defstruct

from scripts.common.errors import IngotError
from scripts.common.typed import suggest


def _builder_options() -> list[tuple[str, Any, Any]]:
    """Olive's names for the options of its ModelBuilder, as of 0.13."""
    kinds: dict[str, Any] = {
        "accuracy_level": Literal[0, 1, 2, 3, 4],
        "block_size": Literal[16, 32, 64, 128, 256],
        "is_symmetric": bool,
        "op_types_to_quantize": list[str],
        "nodes_to_exclude": list[str],
        "algo_config": str,
    }
    switches = (
        "use_qdq", "use_8bits_moe", "use_webgpu_fp32", "use_cuda_bf16", "include_hidden_states", "exclude_embeds",
        "exclude_lm_head", "enable_cuda_graph", "metadata_only",
    )  # fmt: skip
    return [
        ("precision", Annotated[Literal["fp32", "fp16", "bf16", "int8", "int4"], Meta(title="a precision")], ...),
        ("quantization_config", dict[str, Any] | None, None),
        ("search", dict[str, Any] | None, None),
        ("extra_options", dict[str, Any] | None, None),
        *((f"int4_{name}", kind | None, None) for name, kind in kinds.items()),
        *((name, bool | None, None) for name in switches),
    ]


#: Builds an ONNX GenAI folder from a checkpoint: for a whole workflow, since a recipe's passes begin with the export.
ModelBuilder: type[Struct] = defstruct(
    "ModelBuilder",
    [row[:2] if row[2] is ... else row for row in _builder_options()],
    forbid_unknown_fields=True, frozen=True,
)  # fmt: skip

#: Options of builder 0.18 (its own help text) that a workflow may give by name; internal and speculative ones left out.
BUILDER_018 = (
    "accuracy_level", "block_size", "is_symmetric", "op_types_to_quantize", "nodes_to_exclude", "algo_config",
    "matmul_mixed_precision", "qmoe_block_size", "qmoe_weights_prepacked", "matmulnbits_weights_prepacked",
    "moe_quant_type", "num_hidden_layers", "filename", "prune_lm_head", "exclude_embeds", "exclude_lm_head",
    "include_hidden_states", "shared_embeddings", "enable_cuda_graph", "enable_dml_graph", "enable_webgpu_graph",
    "enable_cuda_fpa_intb_gemm", "use_paged_attention", "paged_block_size", "paged_chunk_size", "windowed_kv_cache",
    "gpu_utilization_factor", "max_batch_size", "max_scheduled_tokens", "num_blocks", "state_window",
    "use_device_allocator_for_initializers", "use_qdq", "use_8bits_moe", "kv_cache_quant_scheme",
    "kv_cache_rotation", "kv_cache_scale_file", "fuse_qkv", "fuse_mlp_gate_up", "fuse_qk_norm_gqa",
    "disable_qkv_fusion", "use_webgpu_fp32", "use_cuda_bf16",
)  # fmt: skip

#: What a workflow's `quantization_config` may say, in today's or yesterday's words → builder 0.18's option.
QUANTIZATION = {
    "block_size": "block_size",
    "group_size": "block_size",
    "is_symmetric": "is_symmetric",
    "symmetric": "is_symmetric",
    "sym": "is_symmetric",
    "accuracy_level": "accuracy_level",
    "algo_config": "algo_config",
    "algorithm": "algo_config",
    "op_types_to_quantize": "op_types_to_quantize",
    "nodes_to_exclude": "nodes_to_exclude",
    "matmul_mixed_precision": "matmul_mixed_precision",
}


def translate(options: Mapping[str, Any], subject: str, target: str = "cpu") -> dict[str, Any]:
    """A workflow's options as builder 0.18's. Raises `IngotError` for what 0.18 would silently ignore, for two options
    that contradict each other, and for what is known to make no model, or one that fails.
    """
    given = {key: value for key, value in options.items() if value is not None}
    precision = given.pop("precision")
    given.pop("search", None)  # goes into genai_config.json
    quantization, extra = given.pop("quantization_config", {}), given.pop("extra_options", {})
    if given.pop("metadata_only", False):
        raise IngotError(f"{subject}: metadata_only", "makes no model", "Leave it out")
    if precision in ("fp16", "bf16") and target == "cpu":
        found = f"{precision} on CPU gives a model that fails at its second forward pass"
        raise IngotError(f"{subject}: precision", found, "Use the recipe fp16 (stored in fp16), or fp32")
    check_known(f"{subject}: quantization_config", "quantization_config", quantization, QUANTIZATION)
    if quantization and precision not in ("int4", "int8"):
        raise IngotError(f"{subject}: quantization_config", f"precision {precision} quantises nothing", "Drop one")
    extra = {key.removeprefix("int4_"): value for key, value in extra.items()}
    check_known(f"{subject}: extra_options", "builder 0.18", extra, BUILDER_018)
    found_options: dict[str, Any] = {}
    for source in (
        {QUANTIZATION[key]: value for key, value in quantization.items()},
        {key.removeprefix("int4_"): value for key, value in given.items()},
        extra,
    ):
        for key, value in source.items():
            if key in found_options and found_options[key] != value:
                said = f"said twice: {found_options[key]!r} and {value!r}"
                raise IngotError(f"{subject}: {key}", said, "Say it once")
            found_options[key] = value
    # The default algorithm names its tensors otherwise than the tied embedding expects (asymmetric, or with a head of
    # its own width): the model builds and does not load. RTN is the same rounding under the expected names.
    asymmetric = found_options.get("is_symmetric") is False
    if "algo_config" not in found_options and (asymmetric or "matmul_mixed_precision" in found_options):
        found_options["algo_config"] = "rtn"
    return found_options


def check_known(subject: str, name: str, config: Any, allowed: Any) -> None:
    """Raise `IngotError` for the first key of `config` that is not in `allowed`."""
    for key in config:
        if key not in allowed:
            raise IngotError(f"{subject}: {key}", f"{name} has no such option", suggest(str(key), allowed))

"""What a recipe may say, known without importing Olive: our passes and their options, and Olive's passes by name."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scripts.common.errors import IngotError
from scripts.common.toml_table import suggest

#: Execution providers by the name that recipes use: (Olive's device, ONNX Runtime's provider).
TARGETS = {
    "cpu": ("cpu", "CPUExecutionProvider"),
    "cuda": ("gpu", "CUDAExecutionProvider"),
    "dml": ("gpu", "DmlExecutionProvider"),
    "webgpu": ("gpu", "WebGpuExecutionProvider"),
    "NvTensorRtRtx": ("gpu", "NvTensorRTRTXExecutionProvider"),
}

_WORDS = {bool: "true or false", int: "a whole number", str: "text", list: "a list of texts", dict: "a table"}


@dataclass(frozen=True)
class Option:
    """One option of one of our passes; `allowed` empty: anything of that kind."""

    kind: type
    default: Any
    help: str
    allowed: tuple[Any, ...] = ()
    required: bool = False

    def check(self, subject: str, value: Any) -> None:
        """Raise `IngotError` unless `value` fits."""
        items: list[Any] = value if isinstance(value, list) else []
        plain = type(value) is self.kind and all(isinstance(item, str) for item in items)
        if not plain:
            raise IngotError(subject, f"expected {_WORDS[self.kind]}, found {value!r}", self.help)
        if self.allowed and value not in self.allowed:
            raise IngotError(subject, f"{value!r} is not allowed", f"Allowed: {', '.join(map(str, self.allowed))}")


_BLOCKS = (16, 32, 64, 128, 256)
_ACCURACY = "least precision of activations: 1 float32, 2 float16, 3 bfloat16, 4 int8 (fastest on CPU), 0 unset"
_ALGORITHM = "rtn: nearest value; search: least squared error per block; gptq: least error of what the model computes"

WEIGHT_ONLY = {
    "bits": Option(int, 4, "bits of a weight", (4, 8)),
    "block_size": Option(int, 32, "weights that share one scale", _BLOCKS),
    "symmetric": Option(bool, False, "whether zero is the middle of the range: no zero points are stored"),
    "algorithm": Option(str, "rtn", _ALGORITHM, ("rtn", "search", "gptq")),
    "calibration": Option(str, "", "file of the tokens that gptq looks at; the build gives it"),
    "accuracy_level": Option(int, 4, _ACCURACY, (0, 1, 2, 3, 4)),
    "head_bits": Option(int, 8, "bits of the output head, and of the embedding", (4, 8)),
    "quantize_embedding": Option(bool, True, "whether the embedding is quantised, or left as it is"),
    "half_scales": Option(bool, True, "whether scales are stored as float16"),
    "eight_bit_nodes": Option(list, [], "patterns of the names of MatMul nodes that get 8 bits"),
    "float_nodes": Option(list, [], "patterns of the names of MatMul nodes that stay as they are"),
}

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

_LISTS = ("op_types_to_quantize", "nodes_to_exclude")
_INTS = ("accuracy_level", "block_size")
_OLIVE_NAMES = (*_INTS, "is_symmetric", *_LISTS, "algo_config")

MODEL_BUILDER = {
    "precision": Option(str, None, "fp32, fp16, bf16, int8 or int4", ("fp32", "fp16", "bf16", "int8", "int4"), True),
    "quantization_config": Option(dict, None, "block_size, is_symmetric, accuracy_level, algo_config, …"),
    "search": Option(dict, None, "search settings for genai_config.json"),
    "extra_options": Option(dict, None, "more options of the builder"),
    **{
        f"int4_{name}": Option(
            list if name in _LISTS else int if name in _INTS else bool if name == "is_symmetric" else str,
            None,
            f"the builder's {name}",
        )
        for name in _OLIVE_NAMES
    },
    **{
        name: Option(bool, None, f"the builder's {name}")
        for name in (
            "use_qdq", "use_8bits_moe", "use_webgpu_fp32", "use_cuda_bf16", "include_hidden_states",
            "exclude_embeds", "exclude_lm_head", "enable_cuda_graph", "metadata_only",
        )
    },
}  # fmt: skip

#: Our passes: name → (dotted path of the class, options). `ModelBuilder` stands in for Olive's own of that name.
PASSES: dict[str, tuple[str, dict[str, Option]]] = {
    "ModelBuilder": ("scripts.convert.builder_pass.ModelBuilder", MODEL_BUILDER),
    "StoreFloat16": ("scripts.convert.passes.StoreFloat16", {}),
    "WeightOnlyQuantization": ("scripts.convert.passes.WeightOnlyQuantization", WEIGHT_ONLY),
}


@cache
def olive_config() -> dict[str, Any]:
    """Olive's package configuration (its `olive_config.json`, which lists its passes), read without importing Olive."""
    spec = importlib.util.find_spec("olive")
    if spec is None or spec.origin is None:
        raise IngotError("olive-ai", "is not installed", "Run `make setup`")
    config: dict[str, Any] = json.loads((Path(spec.origin).parent / "olive_config.json").read_text(encoding="utf-8"))
    return config


def package_config() -> dict[str, Any]:
    """Olive's package configuration with our passes registered; ours win where a name is taken."""
    config = json.loads(json.dumps(olive_config()))
    any_of = {"supported_providers": ["*"], "supported_accelerators": ["*"]}
    for name, (path, _) in PASSES.items():
        precisions = ["fp32", "fp16", "int8", "int4"]
        config["passes"][name] = {"module_path": path, **any_of, "supported_precisions": precisions}
    return config  # type: ignore[no-any-return]


def check_target(target: Any) -> str:
    """The recipe's target; raises `IngotError` for one that nobody knows."""
    if target not in TARGETS:
        raise IngotError("recipe: target", f"unknown execution provider {target!r}", suggest(str(target), TARGETS))
    return str(target)


def check_pass(subject: str, name: Any, config: dict[str, Any]) -> str:
    """The pass's name as registered. Raises `IngotError` for an unknown pass and for wrong options of ours.

    The options of Olive's own passes are known only to their classes: `olive.run` checks them.
    """
    names = {**{known.lower(): known for known in olive_config()["passes"]}, **{n.lower(): n for n in PASSES}}
    if not isinstance(name, str) or name.lower() not in names:
        near = suggest(str(name), names.values()).split("Allowed:")[0]
        raise IngotError(f"{subject}: type", f"unknown pass {name!r}", near + f"Ours: {', '.join(sorted(PASSES))}")
    known: str = names[name.lower()]
    if known in PASSES:
        options = PASSES[known][1]
        check_known(subject, known, config, options)
        for key, value in config.items():
            if value is not None:
                options[key].check(f"{subject}: {key}", value)
        for key, option in options.items():
            if option.required and config.get(key) is None:
                raise IngotError(f"{subject}: {key}", "is missing", f"{known} needs it: {option.help}")
    return known


def check_known(subject: str, name: str, config: Any, allowed: Any) -> None:
    """Raise `IngotError` for the first key of `config` that is not in `allowed`."""
    for key in config:
        if key not in allowed:
            raise IngotError(f"{subject}: {key}", f"{name} has no such option", suggest(key, allowed))

"""A base whose weights are quantised: de-quantised exactly, or refused by its method's name."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from scripts.checkpoint.load import load
from tests.families.checkpoints import make_mxfp4
from tests.field import packers
from tests.field.inputs import WEIGHTS, Made, adapter, copy, edit, kl, make, refusal, rewrite
from tests.field.test_weights import truth

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
#: What tools write: how a weight is packed, what config.json says of it, and what the remark calls it.
FORMATS: dict[str, tuple[Callable[[torch.Tensor], packers.Packed], dict[str, Any], str]] = {
    "gptq": (packers.gptq, {"quant_method": "gptq", "bits": 4, "group_size": 64}, "GPTQ, 4 bits"),
    "gptq act-order": (
        functools.partial(packers.gptq, acting=True), {"quant_method": "gptq", "bits": 4, "desc_act": True}, "GPTQ, 4",
    ),
    "gptq 2 bits": (functools.partial(packers.gptq, bits=2), {"quant_method": "gptq", "bits": 2}, "GPTQ, 2 bits"),
    "gptq 3 bits": (functools.partial(packers.gptq, bits=3), {"quant_method": "gptq", "bits": 3}, "GPTQ, 3 bits"),
    "gptq_v2 8 bits": (
        functools.partial(packers.gptq, bits=8, offset=0),
        {"quant_method": "gptq", "bits": 8, "checkpoint_format": "gptq_v2"}, "GPTQ, 8 bits",
    ),
    "auto-round": (
        packers.gptq, {"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:auto_gptq"}, "GPTQ, 4",
    ),
    "awq": (packers.awq, {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm"}, "AWQ, 4 bits"),
    "nf4": (packers.bitsandbytes, NF4, "bitsandbytes, nf4"),
    "nf4 nested": (
        functools.partial(packers.bitsandbytes, nested=True, dtype="float16"), NF4, "bitsandbytes, nf4 with nested",
    ),
    "nf4 silent": (packers.bitsandbytes, {}, "bitsandbytes, nf4"),
    "int8": (packers.int8, {"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes, int8"),
    "fp8 blocks": (packers.fp8, {**FP8, "weight_block_size": [48, 48]}, "fp8 (E4M3, scales for 48 x 48)"),
    "fp8 one scale": (functools.partial(packers.fp8, block=None), FP8, "fp8 (E4M3, one scale a weight)"),
    "fp8 rows": (
        functools.partial(packers.fp8, block=(1, 10**6), scale="weight_scale"), {"quant_method": "fbgemm_fp8"}, "fp8 (",
    ),
    "mxfp8": (packers.mxfp8, {**FP8, "quant_method": "mxfp8", "weight_block_size": [1, 32]}, "fp8 (E4M3, scales for 1"),
}  # fmt: skip


def pack(folder: Path, how: Callable[[torch.Tensor], packers.Packed], settings: dict[str, Any]) -> Any:
    """Quantise the layers' matrices of the checkpoint in `folder`; returns the true model, of the floats they mean."""
    tensors, model = load_file(folder / WEIGHTS), truth(folder)
    for name in [name for name in tensors if "_proj" in name]:
        parts, floats = how(tensors.pop(name))
        tensors |= {name.removesuffix("weight") + part: value.contiguous() for part, value in parts.items()}
        model.get_parameter(name).data = floats
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    edit(folder / "config.json", quantization_config=settings or None)
    return model


def same(made: Made, model: Any) -> bool:
    mine = dict(made.model.named_parameters())
    return all(torch.equal(value, mine[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("name", FORMATS)
def test_quantised_weights_become_the_floats_that_they_mean(weights: Path, tmp_path: Path, name: str) -> None:
    how, settings, called = FORMATS[name]
    model = pack(weights, how, settings)
    made = make(tmp_path / "out", weights)
    assert same(made, model)
    assert f"weights: 14 weights de-quantised from {called}" in made.remarks
    assert "quantization_config" not in made.config
    assert not any(path.is_symlink() for path in made.folder.glob("*.safetensors"))


@pytest.mark.parametrize("name", ["nf4 nested", "gptq act-order", "awq", "int8", "fp8 blocks"])
def test_an_adapter_merges_into_the_floats_of_its_quantised_base(weights: Path, tmp_path: Path, name: str) -> None:
    how, settings, _ = FORMATS[name]
    model = pack(weights, how, settings)
    wrapped = adapter(tmp_path / "adapter", model)
    made = make(tmp_path / "out", weights, tmp_path / "adapter")
    assert "quantization_config" not in made.config
    assert kl(wrapped, made.model) < 1e-6


def test_the_parts_of_a_weight_may_lie_in_several_shards(weights: Path, tmp_path: Path) -> None:
    from tests import tiny

    model = pack(weights, packers.bitsandbytes, NF4)
    folder = tiny.make_sharded(tmp_path / "shards", weights)
    assert same(make(tmp_path / "out", folder), model)


def test_what_older_tools_say_beside_config_json_counts(weights: Path, tmp_path: Path) -> None:
    model = pack(weights, packers.gptq, {})
    assert "nothing says whether by GPTQ or AWQ" in refusal(tmp_path / "refused", weights)
    said = json.dumps({"bits": 4, "group_size": 64, "desc_act": False})
    (weights / "quantize_config.json").write_text(said, encoding="utf-8-sig")
    assert same(make(tmp_path / "out", weights), model)


def test_biases_that_gptqs_packers_invent_are_left_out_if_they_are_zero(weights: Path, tmp_path: Path) -> None:
    model = pack(weights, packers.gptq, {"quant_method": "gptq", "bits": 4})
    name = "model.layers.0.self_attn.q_proj.bias"
    rewrite(weights / WEIGHTS, lambda tensors: tensors | {name: torch.zeros(256)})
    assert same(make(tmp_path / "out", weights), model)
    rewrite(weights / WEIGHTS, lambda tensors: tensors | {name: torch.ones(256)})
    assert f"{name} is not zero" in refusal(tmp_path / "refused", weights)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors"])
def test_floats_in_a_folder_whose_config_says_quantised_are_floats(
    llama: Path, weights: Path, tmp_path: Path, method: str
) -> None:
    """As after merging an adapter by hand: transformers would quantise them again while loading."""
    edit(weights / "config.json", quantization_config={"quant_method": method, "bits": 4})
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert "quantization_config" not in made.config
    assert f"config.json: ignored where it says quantised ({method})" in made.remarks


@pytest.mark.parametrize("method", ["hqq", "torchao", "quanto", "aqlm", "bitnet", "mxfp4", "modelopt"])
def test_a_method_that_is_not_read_is_refused_by_its_name(weights: Path, tmp_path: Path, method: str) -> None:
    edit(weights / "config.json", quantization_config={"quant_method": method, "quant_algo": "NVFP4"})
    assert f"already quantised ({method}" in refusal(tmp_path / "out", weights)


@pytest.mark.parametrize("value", [[1], "gptq", 4])
def test_a_quantisation_of_another_type_is_no_traceback(weights: Path, tmp_path: Path, value: object) -> None:
    edit(weights / "config.json", quantization_config=value)
    assert "already quantised" in refusal(tmp_path / "out", weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "gptq", "checkpoint_format": "marlin"}, "GPTQ, laid out as marlin"),
        ({"quant_method": "gptq", "is_marlin_format": True}, "GPTQ, laid out as marlin"),
        ({"quant_method": "awq", "version": "gemv"}, "AWQ, laid out for gemv"),
        ({"quant_method": "awq"}, "does not make sense: qweight"),
        (
            {"quant_method": "auto-round", "packing_format": "auto_round:gptq_marlin"},
            "packed as auto_round:gptq_marlin",
        ),
    ],
)
def test_a_layout_that_is_not_read_is_refused_by_its_name(
    weights: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    pack(weights, packers.gptq, settings)
    assert words in refusal(tmp_path / "out", weights)


@pytest.mark.parametrize("name", ["gptq", "awq", "nf4 nested", "int8", "fp8 blocks"])
def test_a_part_that_is_missing_or_cut_is_told_by_name(weights: Path, tmp_path: Path, name: str) -> None:
    how, settings, _ = FORMATS[name]
    pack(weights, how, settings)
    tensors = load_file(weights / WEIGHTS)
    module = "model.layers.0.self_attn.q_proj"
    mine = [
        key for key in tensors if key.startswith(f"{module}.") and not key.endswith(("_format", "activation_scale"))
    ]
    for part in mine:
        left = {key: value for key, value in tensors.items() if key != part}
        save_file(left, weights / WEIGHTS, metadata={"format": "pt"})
        if part.endswith("g_idx"):  # without it, the groups follow each other
            continue
        assert module in refusal(tmp_path / "out", weights), part
        if tensors[part].dim() and len(tensors[part]) > 1:
            save_file(tensors | {part: tensors[part][:-1].contiguous()}, weights / WEIGHTS, metadata={"format": "pt"})
            assert module in refusal(tmp_path / "out", weights), part


def test_a_number_that_is_none_in_a_scale_is_told_by_the_weight(weights: Path, tmp_path: Path) -> None:
    pack(weights, packers.awq, {"quant_method": "awq"})
    name = "model.layers.1.mlp.up_proj"
    rewrite(weights / WEIGHTS, lambda tensors: tensors | {f"{name}.scales": tensors[f"{name}.scales"] * torch.inf})
    assert f"{name}.weight holds a number that is not finite" in refusal(tmp_path / "out", weights)


def test_an_adapter_that_was_trained_on_a_quantised_base_says_so_on_a_float_one(llama: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", llama)
    edit(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path="unsloth/llama-3.2-1b-bnb-4bit")
    made = make(tmp_path / "out", llama, tmp_path / "adapter")
    assert "trained on quantised weights (unsloth/llama-3.2-1b-bnb-4bit), merged into float ones" in made.remarks


def test_an_adapter_merges_into_gpt_oss_as_it_is_published(tmp_path: Path) -> None:
    from transformers import GptOssForCausalLM

    base = make_mxfp4(tmp_path / "base")
    model = load(GptOssForCausalLM, base, dtype=torch.float32)
    vocab = model.config.vocab_size
    true = adapter(tmp_path / "adapter", model, target_modules=["q_proj", "v_proj"])
    made = make(tmp_path / "out", base, tmp_path / "adapter")
    assert "quantization_config" not in made.config
    assert kl(true, made.model, vocab=vocab) < 1e-6


def saved(folder: Path, llama: Path, model: Any) -> Path:
    """`model` as transformers saves it, with the tokenizer of `llama`."""
    copy(llama, folder)
    (folder / WEIGHTS).unlink()
    shutil.copytree(llama, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(WEIGHTS, "config.json"))
    model.save_pretrained(folder)
    return folder


def test_transformers_own_fp8_is_read_as_transformers_reads_it(weights: Path, tmp_path: Path) -> None:
    pack(weights, functools.partial(packers.fp8, block=(64, 64)), {**FP8, "weight_block_size": [64, 64]})
    theirs = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    assert same(make(tmp_path / "out", weights), theirs)


@pytest.mark.needs("bitsandbytes")
@pytest.mark.parametrize(
    "options",
    [
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": torch.bfloat16},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "llm_int8_skip_modules": ["lm_head", "down_proj"]},
        {"load_in_8bit": True},
    ],
)
def test_bitsandbytes_own_weights_are_read_as_it_reads_them(
    llama: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(**options)
    model = AutoModelForCausalLM.from_pretrained(llama, quantization_config=settings, dtype=torch.bfloat16)
    folder = saved(tmp_path / "base", llama, model)
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    theirs = theirs.hf_quantizer.dequantize(theirs, dtype=torch.float32).float()
    assert same(make(tmp_path / "out", folder), theirs)


def compressed(folder: Path, llama: Path, form: str, weights: dict[str, Any], acts: dict[str, Any] | None) -> Path:
    """Two kinds of matrices of `llama`, compressed by the library that defines the format."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams

    scheme = {"targets": ["re:.*q_proj", "re:.*down_proj"], "weights": {"symmetric": True, **weights}}
    settings = {
        "format": form, "quantization_status": "compressed", "ignore": ["lm_head"],
        "config_groups": {"group_0": {**scheme, **({"input_activations": acts} if acts else {})}},
    }  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16)
    config = QuantizationConfig.model_validate(settings)
    apply_quantization_config(model, config)
    for module in model.modules():
        if (own := getattr(module, "quantization_scheme", None)) is None:
            continue
        value, args, extra = module.weight.data.float(), own.weights, {}
        size = value.shape[1] if args.strategy == "channel" else args.group_size
        blocks = value.reshape(len(value), -1, size)
        if args.strategy == "tensor_group":
            extra["global_scale"] = module.weight_global_scale.data = (448 * 6 / value.abs().max()).reshape(1)
        scale, zero = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args, **extra)
        for name, number in (("weight_scale", scale), ("weight_zero_point", zero)):
            if (parameter := getattr(module, name, None)) is not None:
                parameter.data = number.reshape(parameter.shape).to(parameter.dtype)
    ModelCompressor(quantization_config=config).compress_model(model)
    copy(llama, folder)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    edit(folder / "config.json", quantization_config={"quant_method": "compressed-tensors", **settings})
    return folder


@pytest.mark.parametrize(
    ("form", "weights", "acts", "most"),
    [
        ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 64}, None, 0.2),
        ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 64, "symmetric": False}, None, 0.2),
        ("int-quantized", {"num_bits": 8, "strategy": "channel"}, {"num_bits": 8, "strategy": "token", "dynamic": True},
         1e-3),
        ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, None, 0.02),
        ("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}, None,
         0.2),
    ],
)  # fmt: skip
def test_compressed_tensors_are_read_as_transformers_reads_them(
    llama: Path, tmp_path: Path, form: str, weights: dict[str, Any], acts: dict[str, Any] | None, most: float
) -> None:
    from transformers import CompressedTensorsConfig

    folder = compressed(tmp_path / "base", llama, form, weights, acts)
    how = CompressedTensorsConfig(dequantize=True)
    theirs = AutoModelForCausalLM.from_pretrained(folder, quantization_config=how, dtype=torch.float32)
    made = make(tmp_path / "out", folder)
    assert same(made, theirs)
    assert 0 < kl(truth(llama), made.model) < most  # what compressing costs, and no more
    assert f"4 weights de-quantised from compressed-tensors ({form})" in made.remarks

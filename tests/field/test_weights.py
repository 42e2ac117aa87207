"""Weights against the class that their config names: every parameter there, every tensor placed, or refused by name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.field.inputs import WEIGHTS, copy, edit, kl, make, refusal, rename, rewrite


def truth(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


WRAPPERS: dict[str, Callable[[str], str]] = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "DistributedDataParallel": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "peft": lambda name: "base_model.model." + name.replace("q_proj.", "q_proj.base_layer."),
    "a vision model's text part": lambda name: name.replace("model.layers", "model.language_model.layers"),
    "a layer compiled by itself": lambda name: name.replace("layers.1.", "layers.1._orig_mod."),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_names_that_a_wrapper_was_written_into_are_undone_and_that_is_said(
    llama: Path, weights: Path, tmp_path: Path, wrapper: str
) -> None:
    rename(weights / WEIGHTS, WRAPPERS[wrapper])
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert "tensors renamed" in made.remarks


def test_a_name_that_two_tensors_would_get_is_refused(weights: Path, tmp_path: Path) -> None:
    norm = "model.norm.weight"
    rewrite(weights / WEIGHTS, lambda t: {("_orig_mod." + n): v for n, v in t.items()} | {"module." + norm: t[norm]})
    assert norm in refusal(tmp_path / "out", weights)


def test_weights_that_lack_a_matrix_are_refused_by_its_name(weights: Path, tmp_path: Path) -> None:
    lost = "model.layers.1.mlp.up_proj.weight"
    rewrite(weights / WEIGHTS, lambda tensors: {name: value for name, value in tensors.items() if name != lost})
    assert f"the weights lack {lost}" in refusal(tmp_path / "out", weights)


def test_norms_under_another_tools_name_are_refused_by_both_names(weights: Path, tmp_path: Path) -> None:
    rename(weights / WEIGHTS, lambda name: name.replace("post_attention_layernorm", "post_attn_norm"))
    line = refusal(tmp_path / "out", weights)
    assert "lack model.layers.0.post_attention_layernorm.weight" in line
    assert "has nothing called model.layers.0.post_attn_norm.weight" in line


def test_a_head_that_is_missing_is_refused_where_the_config_does_not_tie_it(tied: Path, tmp_path: Path) -> None:
    edit(tied / "config.json", tie_word_embeddings=False)
    line = refusal(tmp_path / "out", tied)
    assert "lack lm_head.weight" in line
    assert "set tie_word_embeddings to true" in line


def test_a_head_other_than_the_embedding_is_kept_whatever_the_config_says(tied: Path, tmp_path: Path) -> None:
    def add_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].roll(1, 0)}

    rewrite(tied / WEIGHTS, add_head)
    made = make(tmp_path / "out", tied)
    assert made.config["tie_word_embeddings"] is False
    assert "lm_head.weight: is not the embedding" in made.remarks
    edit(tied / "config.json", tie_word_embeddings=False)
    assert kl(truth(tied), made.model) == 0


def test_a_head_that_equals_the_embedding_stays_tied_without_a_word(tied: Path, tmp_path: Path) -> None:
    rewrite(tied / WEIGHTS, lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"]})
    made = make(tmp_path / "out", tied)
    assert made.config["tie_word_embeddings"] is True
    assert made.remarks == ""


def test_tensors_that_zero3_left_empty_are_refused_with_what_gathers_them(weights: Path, tmp_path: Path) -> None:
    rewrite(weights / WEIGHTS, lambda t: t | {"model.layers.1.mlp.up_proj.weight": torch.zeros(0)})
    line = refusal(tmp_path / "out", weights)
    assert "model.layers.1.mlp.up_proj.weight is empty [0]" in line
    assert "zero_to_fp32.py" in line


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_number_that_is_none_is_refused_by_its_tensor(
    weights: Path, tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    name = "model.layers.1.mlp.up_proj.weight"

    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        tensors[name][-1, -1] = value
        return tensors

    rewrite(weights / WEIGHTS, spoil)
    assert f"{name} holds a number that is not finite" in refusal(tmp_path / "out", weights)


def test_rows_that_the_config_does_not_count_are_kept(weights: Path, tmp_path: Path) -> None:
    whole = copy(weights, tmp_path / "whole")
    grown = {"model.embed_tokens.weight", "lm_head.weight"}
    for folder in (weights, whole):
        rewrite(folder / WEIGHTS, lambda t: {n: torch.cat([v, v[:8]]) if n in grown else v for n, v in t.items()})
    edit(whole / "config.json", vocab_size=584)
    made = make(tmp_path / "out", weights)
    assert made.config["vocab_size"] == 584
    assert "vocab_size is 584, the embedding's rows, in place of 576" in made.remarks
    assert kl(truth(whole), made.model) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 48),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", "two"),
        ("num_hidden_layers", 1),
        ("hidden_size", "big"),
        ("hidden_size", -160),
        ("hidden_size", 10**12),
        ("hidden_size", 512),
        ("intermediate_size", 10**5),
        ("num_attention_heads", 0),
        ("num_attention_heads", True),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 1),
        ("vocab_size", 2.5),
        ("max_position_embeddings", 10**18),
        ("head_dim", 32),
    ],
)
def test_a_size_that_the_weights_do_not_have_is_refused_before_anything_is_built(
    weights: Path, tmp_path: Path, key: str, value: object
) -> None:
    edit(weights / "config.json", **{key: value})
    start = time.monotonic()
    line = refusal(tmp_path / "out", weights)
    assert time.monotonic() - start < 5
    assert "config" in line


def test_two_names_of_a_class_that_contradict_each_other_are_refused(weights: Path, tmp_path: Path) -> None:
    edit(weights / "config.json", model_type="mistral")
    line = refusal(tmp_path / "out", weights)
    assert "model_type is 'mistral', but LlamaForCausalLM is of type 'llama'" in line


def test_an_adapter_left_among_the_weights_is_refused_with_how_to_merge_it(weights: Path, tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
    rewrite(weights / WEIGHTS, lambda tensors: tensors | {name: torch.zeros(4, 256)})
    line = refusal(tmp_path / "out", weights)
    assert "holds an adapter's tensors" in line
    assert "merge_and_unload" in line


def test_what_older_versions_saved_beside_the_weights_is_left_out_and_said(weights: Path, tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(32)}
    rewrite(weights / WEIGHTS, lambda tensors: tensors | extra)
    made = make(tmp_path / "out", weights)
    assert "not used by this class of model: model.layers.0.self_attn.rotary_emb.inv_freq" in made.remarks


def test_a_large_folder_is_refused_within_seconds(weights: Path, tmp_path: Path) -> None:
    """Two GiB, sparse: what decides is in the header."""
    header = json.loads(
        (weights / WEIGHTS).read_bytes()[8:][: int.from_bytes((weights / WEIGHTS).read_bytes()[:8], "little")]
    )
    size = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    header["model.extra.weight"] = {
        "dtype": "F32",
        "shape": [1 << 15, 1 << 14],
        "data_offsets": [size, size + (2 << 30)],
    }
    text = json.dumps(header).encode()
    data = (weights / WEIGHTS).read_bytes()[-size:]
    with (weights / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)
        file.truncate(8 + len(text) + size + (2 << 30))
    start = time.monotonic()
    assert "has nothing called model.extra.weight" in refusal(tmp_path / "out", weights)
    assert time.monotonic() - start < 5

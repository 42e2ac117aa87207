"""What was meant but is something else is told as what it is, with what makes a model of it; what can be read is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.field.inputs import ADAPTER, WEIGHTS, adapter, copy, edit, kl, make, refusal, rewrite
from tests.field.test_adapters import SAME
from tests.field.test_sources import gguf
from tests.field.test_weights import truth
from tests.tiny import VOCAB

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def only_states(folder: Path, state: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / state).mkdir()


def adapter_alone(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


def not_a_number(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": float("nan")}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: only_states(folder, "pytorch_model_fsdp_0"), "accelerate merge-weights"),
        (lambda folder: only_states(folder, "global_step5"), "python zero_to_fp32.py"),
        (adapter_alone, "an adapter, not a checkpoint"),
        (lambda folder: (folder / "tokenizer.json").write_text(POINTER), "tokenizer.json: a Git LFS pointer"),
        (lambda folder: (folder / "special_tokens_map.json").write_text(""), "special_tokens_map.json: not JSON"),
        (not_a_number, "rms_norm_eps is nan"),
        (lambda folder: edit(folder / "config.json", rope_parameters={}, rope_theta="1"), "rope_theta is '1'"),
    ],
)
def test_a_folder_that_can_not_be_built_is_told_as_what_it_is(
    weights: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(weights)
    assert words in refusal(tmp_path / "out", weights)


def test_a_model_below_the_folder_is_named(llama: Path, tmp_path: Path) -> None:
    copy(llama, tmp_path / "outputs" / "run" / "data" / "model")
    said = refusal(tmp_path / "out", tmp_path / "outputs")
    assert said.endswith(str(tmp_path / "outputs" / "run"))
    assert kl(truth(llama), make(tmp_path / "made", tmp_path / "outputs" / "run").model) == 0
    (tmp_path / "packed").mkdir()
    gguf(tmp_path / "packed" / "m.gguf", truth(llama), llama)
    assert "no config.json, but m.gguf" in refusal(tmp_path / "out", tmp_path / "packed")


def test_an_mlflow_models_adapter_is_found(llama: Path, tmp_path: Path) -> None:
    expected = adapter(tmp_path / "model" / "peft", llama)
    assert kl(expected, make(tmp_path / "out", llama, tmp_path / "model").model) < SAME


def of_mlx(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "lora"}))


def no_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").rename(folder / "config.json")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (of_mlx, "mlx_lm.fuse"),
        (no_adapter, "a whole model, not an adapter"),
        (lambda folder: rewrite(folder / ADAPTER, lambda t: {n: v[:0] for n, v in t.items()}), "ZeRO-3"),
    ],
)
def test_an_adapter_that_can_not_be_merged_is_told_as_what_it_is(
    llama: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    adapter(tmp_path / "adapter", llama)
    spoil(tmp_path / "adapter")
    assert words in refusal(tmp_path / "out", llama, tmp_path / "adapter")


def test_scales_for_a_cache_and_empty_entries_hinder_nothing(llama: Path, weights: Path, tmp_path: Path) -> None:
    scale = "model.layers.0.self_attn.k_scale"
    rewrite(weights / WEIGHTS, lambda tensors: {**tensors, scale: torch.ones(1)})
    path = weights / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_scaling": {"type": None, "factor": None}}))
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert f"not used by this class of model: {scale}" in made.remarks
    assert "rope_scaling is null in type and factor" in made.remarks


def test_rows_are_counted_where_the_embedding_is_saved_as_the_head(tied: Path, tmp_path: Path) -> None:
    rewrite(tied / WEIGHTS, lambda t: {n.replace("model.embed_tokens", "lm_head"): v for n, v in t.items()})
    tokens = json.loads((tied / "tokenizer.json").read_text())
    tokens["model"]["vocab"]["beyond"] = VOCAB + 3
    (tied / "tokenizer.json").write_text(json.dumps(tokens))
    assert f"token 'beyond' has id {VOCAB + 3}" in refusal(tmp_path / "out", tied)


def test_padding_that_an_adapter_brings_needs_no_row(llama: Path, tmp_path: Path) -> None:
    expected = adapter(tmp_path / "adapter", llama)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(tmp_path / "adapter")
    made = make(tmp_path / "out", llama, tmp_path / "adapter")
    assert kl(expected, made.model) < SAME
    assert len(made.tokenizer) == VOCAB
    assert "left out, having no row in the embedding: [PAD]" in made.remarks


ADDED: dict[str, tuple[dict[str, Any], bool]] = {
    "trained tokens": ({"trainable_token_indices": {"embed_tokens": [VOCAB], "lm_head": [VOCAB]}}, False),
    "trained tokens, and the rest": ({"trainable_token_indices": {"embed_tokens": [VOCAB]}}, True),
    "LoRA of embedding and head": ({"target_modules": ["q_proj", "embed_tokens", "lm_head"]}, True),
}


@pytest.mark.parametrize("base", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", ADDED)
def test_an_added_token_is_merged_as_peft_has_it_however_it_was_trained(
    base: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Path = request.getfixturevalue(base)
    options, embeddings = ADDED[kind]
    expected = resized_adapter(tmp_path / "adapter", source, **options)
    if embeddings:
        expected.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    made = make(tmp_path / "out", source, tmp_path / "adapter")
    assert kl(expected, made.model, vocab=VOCAB + 1) < SAME


def test_an_added_token_without_a_row_of_the_head_is_refused(llama: Path, tmp_path: Path) -> None:
    resized_adapter(tmp_path / "adapter", llama, modules_to_save=["embed_tokens"])
    assert "does not hold their rows of lm_head" in refusal(tmp_path / "out", llama, tmp_path / "adapter")


def resized_adapter(folder: Path, source: Path, **options: Any) -> Any:
    """An adapter of a model that got one more token; returns peft's model."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["<tool>"], special_tokens=True)
    model = AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(len(tokenizer))
    made = adapter(folder, model, **options)
    tokenizer.save_pretrained(folder)
    return made

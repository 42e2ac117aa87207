"""The roofline: what a token reads, counted by the model's own shapes, and what memory gives."""

from __future__ import annotations

import json
from pathlib import Path

import tomli

from scripts.bench import roofline
from scripts.convert.quantize import quantize
from tests.served import onnx_folder, package

__all__ = ["onnx_folder", "package"]  # fixtures

RECIPES = tomli.loads(Path("config/recipes.toml").read_text(encoding="utf-8"))


def test_every_matrix_is_read_once_a_token_and_the_embedding_only_as_the_output_head(
    tiny_trained: Path, onnx_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_trained)
    assert model.config.tie_word_embeddings
    floats = 4 * sum(value.numel() for value in model.parameters())
    found = roofline.read_weights(onnx_folder / "model.onnx")
    assert abs(found - floats) <= 0.02 * floats
    sizes = {}
    for name in ("fp16", "int8"):
        quantize(onnx_folder, RECIPES[name], tmp_path / name)
        sizes[name] = roofline.read_weights(tmp_path / name / "model.onnx")
    assert abs(sizes["fp16"] - found) <= 0.02 * found, "halves become floats when they are loaded"
    assert 0.25 * found < sizes["int8"] < 0.32 * found


def test_keys_and_values_grow_what_a_token_reads(package: Path) -> None:
    genai = json.loads((package / "genai_config.json").read_text())["model"]["decoder"]
    of_token = 2 * genai["num_hidden_layers"] * genai["num_key_value_heads"] * genai["head_size"] * 4
    assert roofline.bytes_per_token(package, 100) - roofline.bytes_per_token(package, 0) == 100 * of_token


def test_memory_is_read_at_a_rate_that_memory_has() -> None:
    assert 1e8 < roofline.read_bandwidth(1) < 1e12

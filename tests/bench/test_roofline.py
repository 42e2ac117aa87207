"""The roofline: what a token reads, counted by the model's own shapes, and what memory gives."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import tomli

from scripts.bench import roofline
from scripts.common import machine
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


def test_what_is_read_is_many_times_what_the_caches_hold() -> None:
    told = subprocess.run(["getconf", "LEVEL3_CACHE_SIZE"], capture_output=True, text=True, check=False)
    size = int(told.stdout) if told.returncode == 0 and told.stdout.strip().isdigit() else 0
    assert roofline.bytes_to_read() >= min(4 * size, machine.usable_memory() // 4) and size <= machine.cache_bytes()


def test_the_caches_of_all_cores_count_each_once(tmp_path: Path) -> None:
    """A processor with two caches of 32 MiB: a made-up tree of sysfs, as no such machine is here."""
    for core, (level, size, shared) in enumerate(
        [(3, 32768, "0-1"), (3, 32768, "0-1"), (3, 32768, "2"), (2, 1024, "2")]
    ):
        index = tmp_path / f"cpu{core}" / "cache" / "index3"
        index.mkdir(parents=True)
        for name, value in (("level", level), ("size", f"{size}K"), ("shared_cpu_list", shared)):
            (index / name).write_text(f"{value}\n", encoding="ascii")
    assert machine.caches_in(tmp_path) == 64 << 20

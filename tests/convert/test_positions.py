"""A precision's rotary tables end where its package's context does, and what it computes stays the same."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.common import context as contexts
from scripts.convert.export import export
from scripts.convert.graph import Graph
from scripts.convert.quantize import quantize
from scripts.quality.logits import GenaiModel
from tests.families import checkpoints

RECIPES = tomllib.loads(Path("config/recipes.toml").read_text(encoding="utf-8"))
LONG, CONTEXT = 16384, 2048


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("model.onnx*"))


def logits(folder: Path, count: int) -> np.ndarray:
    return np.concatenate(list(GenaiModel(folder).logits(np.arange(count, dtype=np.int32) % 500 + 3, 256)))


@pytest.mark.parametrize(
    ("family", "changes", "tables"),
    [
        ("gemma 3", {}, 4),  # a pair for each kind of layer
        ("phi3, longrope", {"original_max_position_embeddings": 512}, 4),  # two pairs, chosen in the graph
        ("qwen3-vl", {}, 2),  # read by an operator of its own
        ("llama 3", {}, 2),
    ],
)
def test_tables_end_with_the_context_and_give_the_same_logits(
    family: str, changes: dict[str, Any], tables: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if family == "phi3, longrope":
        changes = {**changes, "rope_parameters": {**checkpoints.LONG, **changes}}
    checkpoint = checkpoints.make(family, tmp_path / "checkpoint", max_position_embeddings=LONG, **changes)
    export(checkpoint, tmp_path / "export")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    quantize(tmp_path / "export", RECIPES["int8"], whole)
    capfd.readouterr()
    quantize(tmp_path / "export", RECIPES["int8"], cut, context=CONTEXT)
    kept = 1 if "longrope" in family else 0  # the table of the original context is shorter already
    assert f"rotary tables: {tables - 2 * kept} cut to {CONTEXT} positions" in capfd.readouterr().out
    saved = (LONG - CONTEXT) * (tables - 2 * kept) * (32 // 2) * 4  # half a head, in float32
    assert abs(size(whole) - size(cut) - saved) < 5000
    np.testing.assert_array_equal(logits(cut, 700), logits(whole, 700))
    assert json.loads((cut / "genai_config.json").read_text())["model"]["context_length"] == CONTEXT


def test_what_is_judged_fits_in_however_short_the_context() -> None:
    assert contexts.positions(512) >= contexts.JUDGED + contexts.SPARE
    assert contexts.positions(4096) == 4096


def test_tables_that_are_short_already_are_left(llama_export: Path, tmp_path: Path) -> None:
    quantize(llama_export, RECIPES["int8"], tmp_path / "whole")
    quantize(llama_export, RECIPES["int8"], tmp_path / "kept", context=1 << 20)
    for name in ("model.onnx", "model.onnx.data", "genai_config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()


def test_an_export_keeps_every_row(llama_export: Path) -> None:
    assert Graph(llama_export / "model.onnx").initializers["cos_cache"].dims[0] == 4096

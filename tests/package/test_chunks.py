"""A long prompt is computed in pieces, says the same, and only where that is certain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from scripts.common import genai_config
from scripts.package import chunks
from scripts.package.build import build
from scripts.package.card import PackageSpec
from scripts.runtime import genai
from scripts.runtime.foundry import Runtime
from tests import tiny

LONG = "the parcel arrived late and one corner was torn " * 60


@pytest.fixture(scope="module")
def made(exported: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pieces") / "package"
    build(exported, tiny_llama, PackageSpec("long-generic-cpu:1", "fp32"), output)
    return output


def test_a_long_prompt_gives_the_same_in_pieces(made: Path, tmp_path: Path) -> None:
    settings = genai_config.read(made)
    assert settings["search"].pop("chunk_size") == chunks.PIECE
    whole = Path(shutil.copytree(made, tmp_path / "whole"))
    (whole / genai_config.NAME).write_text(json.dumps(settings), encoding="utf-8")
    found = []
    for folder in (made, whole):
        model = genai.Model(folder)
        prompt = model.tokenizer.encode(model.tokenizer.render(tiny.conversation(LONG)))
        assert len(prompt) > 2 * chunks.PIECE
        generation = model.generation(len(prompt) + 8)
        generation.append(prompt)
        found.append(generation.logits())
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_foundry_takes_a_long_prompt(made: Path) -> None:
    with Runtime() as runtime:
        runtime.register(made, "long-generic-cpu:1")
        answer = runtime.load("long-generic-cpu:1").complete(LONG, max_tokens=4)
    assert answer.prompt_tokens > 2 * chunks.PIECE
    assert answer.completion_tokens == 4


def _with_a_branch(folder: Path, _settings: dict[str, Any]) -> None:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    model.graph.node.append(onnx.helper.make_node("If", ["longer"], ["tables"]))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize("change", [
    _with_a_branch,
    lambda _folder, settings: settings["model"]["decoder"].update(sliding_window={"window_size": 512}),
    lambda _folder, settings: settings["model"]["decoder"]["inputs"].update(past_conv_names="past_conv.%d"),
    lambda _folder, settings: settings["model"]["decoder"].update(
        session_options={"provider_options": [{"OpenVINO": {}}]}
    ),
], ids=["branch", "window", "state", "device"])  # fmt: skip
def test_what_may_differ_in_pieces_is_computed_at_once(
    exported: Path, tmp_path: Path, change: Callable[[Path, dict[str, Any]], None]
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "onnx"))
    settings = genai_config.read(folder)
    change(folder, settings)
    chunks.read_in_pieces(settings, folder)
    assert "chunk_size" not in settings["search"]

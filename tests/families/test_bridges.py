"""Each bridge changes what is built of a family that it is for: one that no longer does is in the way, and goes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from scripts.convert import bridges, builder_pass
from tests.families import checkpoints

#: bridge → a family that it is for, and what else its config must say.
FOR: dict[str, tuple[str, dict[str, Any]]] = {
    "scaled queries": ("ministral 3", {}),
    "longrope's context": ("llama, longrope", {}),
    "rotary tables": ("llama, linear", {}),
    "longrope's spelling": ("phi3, longrope", {}),
    "no longrope": ("phi3", {"original_max_position_embeddings": checkpoints.CONTEXT // 2}),
    "window on every layer": ("phi3", {}),
    "whole cache": ("gemma 3", {}),
    "relative's name": ("ministral", {}),
    "sizes of each kind of layer": ("gemma 4, text", {}),
    "layers without position": ("smollm3", {}),
    "no position at all": ("granite 4", {"position_embedding_type": "nope"}),
    "tokenizer's class": ("qwen3.5", {}),
    "layer norm": ("olmo", {}),
    "epsilon of norms": ("phi", {}),
    "scale of embeddings": ("gemma", {}),
    "experts' activation": ("gpt-oss", {"swiglu_alpha": 2.5}),
    "order of layers": ("gpt-oss", {"layer_types": list(reversed(checkpoints.LAYERS))}),
    "float32 vectors": ("nemotron", {}),
}


def built(checkpoint: Path, folder: Path) -> dict[str, str]:
    """Digests of the files that the builder makes; empty where it stops."""
    try:
        builder_pass.build(checkpoint, folder, "fp32", "cpu", {})
    except Exception:  # noqa: BLE001 - whatever the builder dies of
        return {}
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_every_bridge_is_tested_here() -> None:
    assert list(FOR) == [bridge.name for bridge in bridges.BRIDGES]


@pytest.mark.parametrize("name", FOR)
def test_a_bridge_changes_what_is_built(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, changes = FOR[name]
    checkpoint = checkpoints.make(family, tmp_path / "checkpoint", **changes)
    with_it = built(checkpoint, tmp_path / "with")
    assert with_it
    monkeypatch.setattr(bridges, "BRIDGES", tuple(bridge for bridge in bridges.BRIDGES if bridge.name != name))
    assert built(checkpoint, tmp_path / "without") != with_it


def test_a_bridge_names_the_fault_and_when_it_can_go() -> None:
    assert [bridge.name for bridge in bridges.BRIDGES if not (bridge.mends and bridge.fault and bridge.until)] == []


def test_a_model_that_needs_no_bridge_is_built_byte_for_byte_as_the_builder_alone_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoints.make("llama", tmp_path / "checkpoint")
    bridged = built(checkpoint, tmp_path / "bridged")
    monkeypatch.setattr(bridges, "BRIDGES", ())
    assert built(checkpoint, tmp_path / "plain") == bridged

"""The second exporter: its bridges each change what is built, its output is judged, and it says what it leaves out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from scripts.common.errors import IngotError
from scripts.convert import exporters, mobius_bridges, mobius_pass
from scripts.convert.export import export
from scripts.convert.graph import Graph
from scripts.families import mobius, supported
from tests import tiny
from tests.families import checkpoints, measure

#: bridge → a family that it is for, and what else its config must say.
FOR: dict[str, tuple[str, dict[str, Any]]] = {
    "interleaved rotary embedding": ("helium", {}),
    "biases that are not there": ("phi moe", {}),
    "epsilon of layers' norms": ("jetmoe", {"rms_norm_eps": 0.01}),
    "window of each layer": ("mixtral", {}),
    "rotary tables": ("qwen3-moe, dynamic", {}),
    "layers without position": ("exaone 4", {}),
}


def built(checkpoint: Path, folder: Path) -> dict[str, str]:
    """Digests of the files that mobius makes; empty where it stops."""
    try:
        mobius_pass.build(checkpoint, folder)
    except Exception:  # noqa: BLE001 - whatever it dies of
        return {}
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tuple(bridge for bridge in mobius_bridges.BRIDGES if bridge.name != name)
    monkeypatch.setattr(mobius_bridges, "BRIDGES", kept)


def test_every_bridge_is_tested_here_and_says_what_it_mends() -> None:
    assert list(FOR) == [bridge.name for bridge in mobius_bridges.BRIDGES]
    assert all(bridge.mends and bridge.fault and bridge.until for bridge in mobius_bridges.BRIDGES)


@pytest.mark.parametrize("name", FOR)
def test_a_bridge_changes_what_is_built(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, changes = FOR[name]
    checkpoint = checkpoints.make(family, tmp_path / "checkpoint", **changes)
    with_it = built(checkpoint, tmp_path / "with")
    assert with_it
    assert built(checkpoint, tmp_path / "again") == with_it, "the same bytes each time, wherever it is"
    without(name, monkeypatch)
    assert built(checkpoint, tmp_path / "without") != with_it


@pytest.mark.parametrize(
    ("family", "bridge"), [("olmo 3", "window of each layer"), ("cohere", "interleaved rotary embedding")]
)
def test_what_mobius_writes_wrongly_is_refused_by_the_gate(
    family: str, bridge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(bridge, monkeypatch)
    assert measure.judged_export(family, tmp_path).export.verdict == "refused"


def test_a_tied_embedding_is_one_table_and_matrices_are_named_for_their_weights(tmp_path: Path) -> None:
    export(checkpoints.make("olmo 2", tmp_path / "checkpoint"), tmp_path / "export")
    graph = Graph(tmp_path / "export" / "model.onnx")
    wide = [name for name, tensor in graph.initializers.items() if tiny.VOCAB in tensor.dims]
    assert wide == ["lm_head.weight_t"]
    names = [node.name for node in graph.graph.node]
    assert len(names) == len(set(names))
    assert {"/model/layers/0/self_attn/v_proj/MatMul", "/lm_head/MatMul"} <= set(names)


@pytest.mark.parametrize("family", ["exaone 4", "gpt-neox", "jetmoe", "gpt-2"])
@pytest.mark.parametrize("tied", [True, False])
def test_tied_or_not_the_head_finds_its_place(family: str, tied: bool, tmp_path: Path) -> None:
    checkpoint = checkpoints.make(family, tmp_path / "checkpoint", tie_word_embeddings=tied)
    mobius_pass.build(checkpoint, tmp_path / "built")
    graph = Graph(tmp_path / "built" / "model.onnx")
    assert sum(tiny.VOCAB in tensor.dims for tensor in graph.initializers.values()) == (1 if tied else 2)


def test_a_tensor_that_finds_no_place_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    checkpoint = checkpoints.make("olmo 2", tmp_path / "checkpoint")
    weights = load_file(checkpoint / "model.safetensors")
    extra = {"model.layers.0.mlp.shared.weight": weights["model.norm.weight"].clone()}
    save_file(weights | extra, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IngotError, match=r"mlp\.shared\.weight: has no place in mobius"):
        mobius_pass.build(checkpoint, tmp_path / "built")


def test_who_exports_is_chosen_by_the_family_and_by_who_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    llama, olmo2, gemma = ({"architectures": [f"{name}ForCausalLM"]} for name in ("Llama", "Olmo2", "Gemma"))
    assert supported.exporter(file, llama) == "builder"
    assert supported.exporter(file, llama, "mobius") == "mobius"
    assert supported.exporter(file, olmo2) == "mobius"
    with pytest.raises(IngotError, match="Leave `exporter` out"):
        supported.exporter(file, olmo2, "builder")
    with pytest.raises(IngotError, match="Leave `exporter` out"):
        supported.exporter(file, gemma, "mobius")


def test_only_the_exporter_that_makes_a_checkpoint_is_in_the_key(tmp_path: Path) -> None:
    both = {"scripts.convert.builder_pass", "scripts.convert.mobius_pass"}
    assert set(exporters.modules(tmp_path)) == both
    (tmp_path / "config.json").write_text('{"architectures": ["Olmo2ForCausalLM"]}', encoding="utf-8")
    assert exporters.modules(tmp_path) == ("scripts.convert.mobius_pass",)


def test_every_family_of_mobius_is_tested() -> None:
    tested = {family.architecture for family in checkpoints.FAMILIES.values()}
    assert set(mobius.FAMILIES) <= tested
    assert mobius.architectures() == set(mobius.FAMILIES)


@pytest.mark.long
@pytest.mark.parametrize("name", ["llama", "llama 3", "mistral, window", "qwen2, window", "qwen3", "phi", "phi3",
                                  "granite", "smollm3", "olmo"])  # fmt: skip
def test_what_both_make_mobius_makes_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supported, "EXPORTERS", ("mobius", "builder"))
    assert measure.judged_export(name, tmp_path).worst <= measure.GATE

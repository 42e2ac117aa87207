"""What fuzzing found, each by its name: once a traceback, now our own error or success."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.cases import cases
from scripts.checkpoint.adapters import check_adapter
from scripts.checkpoint.headers import read_gguf
from scripts.checkpoint.layout import find_weights
from scripts.common import genai_config
from scripts.common.errors import IngotError
from scripts.engine import publish
from scripts.engine.digests import Digests
from scripts.engine.state import State
from scripts.engine.store import Store
from scripts.foundry import cache, planning
from scripts.settings.reading import read
from tests.hostile import readers


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize("value", [None, [], 1, {"$schema": True}, {"$schema": None}, {"$schema": {}}])
def test_a_schema_of_another_type(tmp_path: Path, value: Any) -> None:
    with pytest.raises(IngotError, match="is not a JSON schema"):
        cases.load_schema(write(tmp_path / "schema.json", value))


@pytest.mark.parametrize("value", [True, {}, {"$ref": "#/$defs/a", "$defs": {"a": True}}])
def test_an_unusual_schema_that_is_one(tmp_path: Path, value: Any) -> None:
    assert cases.load_schema(write(tmp_path / "schema.json", value)).is_valid({"any": "thing"})


@pytest.mark.parametrize("ref", ["#/$defs/none", "https://e.example/x.json", "other.json", "file:///etc/passwd"])
def test_a_reference_that_leads_nowhere_or_away(tmp_path: Path, ref: str) -> None:
    with pytest.raises(IngotError, match="which is not in it"):
        cases.load_schema(write(tmp_path / "schema.json", {"properties": {"a": {"$ref": ref}}}))


def test_half_of_a_character_in_a_key_of_a_case(tmp_path: Path) -> None:
    text = '{"id": "a", "prompt": "q", "expect": {"\\ud800": "x"}}'
    with pytest.raises(IngotError, match=r"cases.jsonl:1: holds half of a character"):
        cases.load(write(tmp_path / "cases.jsonl", text))


def test_an_id_twice_and_one_with_a_nul(tmp_path: Path) -> None:
    case = '{"id": "a\\u0000b", "prompt": "q", "expect": {"exact": "x"}}'
    assert [found.id for found in cases.load(write(tmp_path / "cases.jsonl", case))] == ["a\0b"]
    with pytest.raises(IngotError, match=r"cases.jsonl:2: id: .* is the id of line 1 already. Give each its own"):
        cases.load(write(tmp_path / "cases.jsonl", f"{case}\n{case}"))


@pytest.mark.parametrize("alpha", [10**400, float("inf"), float("nan"), True, "8"])
def test_an_alpha_beyond_all_floats(tmp_path: Path, alpha: Any) -> None:
    write(tmp_path / "adapter_config.json", {**readers.ADAPTER, "lora_alpha": alpha})
    with pytest.raises(IngotError, match=r"adapter_config.json: lora_alpha is .* where a finite number is due"):
        check_adapter(tmp_path)


@pytest.mark.parametrize("rank", [0, -4, "x", 10**9, None, 4.0, True])
def test_a_rank_that_no_adapter_has(tmp_path: Path, rank: Any) -> None:
    write(tmp_path / "adapter_config.json", {**readers.ADAPTER, "r": rank})
    with pytest.raises(IngotError, match=r"adapter_config.json: r is .* where a rank from 1 to"):
        check_adapter(tmp_path)


@pytest.mark.parametrize("shard", ["a" * 5000, "a\0b", "../a.safetensors", "/etc/passwd", ".", "\ud800"])
def test_a_shards_name_that_no_file_of_the_folder_has(tmp_path: Path, shard: str) -> None:
    write(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": shard}})
    with pytest.raises(IngotError, match=r"shard is missing|is not beside it") as error:
        find_weights(tmp_path)
    assert str(error.value).isprintable() and len(str(error.value)) < 2500


@pytest.mark.parametrize("digits", ["0x" + "f" * 20_000, "0b" + "1" * 90_000, "9" * 5_000])
def test_a_number_of_thousands_of_digits_in_models_toml(tmp_path: Path, digits: str) -> None:
    text = f'[[model]]\nname = "m"\nsource = {{ path = "w" }}\ncontext_length = {digits}\n'
    write(tmp_path / "models.toml", text)
    try:
        [model] = read(tmp_path).models
        told = str(model.problem)
    except IngotError as error:
        told = str(error)
    assert "digits" in told and len(told) < 400, told


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a" + ".a" * 100_000 + " = 1", "a = " + "{a=" * 100_000])
def test_toml_that_is_nested_without_end(tmp_path: Path, text: str) -> None:
    write(tmp_path / "models.toml", text)
    with pytest.raises(IngotError, match=r"models.toml: is nested too deeply"):
        read(tmp_path)


def test_a_hub_name_that_leads_out_of_its_cache(tmp_path: Path) -> None:
    text = '[[model]]\nname = "m"\nsource = { hub = "../b", revision = "' + "0" * 40 + '" }\n'
    [model] = read(write(tmp_path / "models.toml", text).parent).models
    assert "source.hub: '../b' is not what is expected. Give organisation/name" in str(model.problem)


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", 7, None, ["/x"]])
def test_a_registration_of_what_is_no_path(tmp_path: Path, path: Any) -> None:
    model = {"model_info": {"id": "m-int4-generic-cpu:1"}, "model_path": path}
    write(tmp_path / cache.INDEX, {"models": [model]})
    with pytest.raises(IngotError, match=cache.INDEX):
        planning.plan(tmp_path, "m-int4-generic-cpu:1", {}, lambda _: {})


@pytest.mark.parametrize("decoder", [7, {"session_options": 7}, {"session_options": {"provider_options": [-4]}},
                                     {"head_size": "#"}, {"num_hidden_layers": -1}])  # fmt: skip
def test_settings_of_the_runtime_of_another_type(tmp_path: Path, decoder: Any) -> None:
    write(tmp_path / genai_config.NAME, {"model": {"decoder": decoder}, "search": {}})
    with pytest.raises(IngotError, match=r"genai_config.json: model.decoder"):
        genai_config.read(tmp_path)


def test_a_gguf_header_that_promises_what_no_model_has(tmp_path: Path) -> None:
    sound = readers.gguf()
    for start, what in ((8, "tensors"), (16, "pairs of metadata")):
        (tmp_path / "a.gguf").write_bytes(sound[:start] + (2**40).to_bytes(8, "little") + sound[start + 8 :])
        with pytest.raises(IngotError, match=f"damaged: {2**40} {what}"):
            read_gguf(tmp_path / "a.gguf")
    texts = sound.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 8
    with (tmp_path / "a.gguf").open("wb") as file:
        file.write(sound[:texts] + (2**33).to_bytes(8, "little"))
        file.truncate(50 << 30)  # sparse: as many empty texts as there are zeros
    with pytest.raises(IngotError, match="texts in a list"):
        read_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize("name", ["../outside", "/{tmp}/outside", "link/x"])
def test_a_note_of_a_dead_build_moves_nothing_out_of_the_build(tmp_path: Path, name: str) -> None:
    build = tmp_path / "build"
    work = build / publish.WORK / "step.1.1"
    (work / "old").mkdir(parents=True)
    (tmp_path / "away").mkdir()
    (build / "link").symlink_to(tmp_path / "away")
    write(work / "aside.json", {"final": name.replace("{tmp}", str(tmp_path))})
    publish.sweep(build, Digests(State(Path(":memory:"))))
    assert not work.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["away", "build"]
    assert not list((tmp_path / "away").iterdir())


def link_out(path: Path) -> None:
    (path.parents[2] / "away").mkdir()
    (path.parents[2] / "away" / "file").touch()
    path.symlink_to(path.parents[2] / "away")


@pytest.mark.parametrize(
    "spoil", [link_out, os.mkfifo, lambda path: path.symlink_to("x")], ids=["link", "pipe", "loop"]
)
def test_an_object_of_the_store_with_what_no_output_holds(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """It is taken for damaged and goes, and nothing that a link of it leads to is looked at or goes with it."""
    stored = tmp_path / "store" / "key"
    stored.mkdir(parents=True)
    write(stored / "manifest.json", {"files": {}})
    write(stored / "provenance.json", {})
    spoil(stored / "x")
    store = Store(tmp_path, Digests(State(Path(":memory:"))))
    store.objects()
    assert store.restore("key", tmp_path / "out") is None
    assert not stored.exists()
    assert (tmp_path / "away" / "file").exists() == (spoil is link_out)

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.errors import IngotError
from scripts.package import rules


@pytest.mark.parametrize(
    ("text", "alias"),
    [
        ("triage-int4-generic-cpu:1", "triage-int4"),
        ("triage-int4-generic-gpu:12", "triage-int4"),
        ("Triage.v2_x:0", "Triage.v2_x"),
        ("a-generic-cpu-b:3", "a-generic-cpu-b"),
    ],
)
def test_an_id_is_taken_apart(text: str, alias: str) -> None:
    found = rules.parse_id(text)
    assert (f"{found.name}:{found.version}", found.alias) == (text, alias)


@pytest.mark.parametrize(
    "text", ["", "triage", "triage:", "v:1.0", "v:01", "-v:1", "ü:1", "a b:1", "a/b:1", "v:1\n", "v:-1"]
)
def test_an_id_that_foundry_refuses_is_refused_first(text: str) -> None:
    with pytest.raises(IngotError, match="Foundry Local would refuse it"):
        rules.parse_id(text)


@given(st.text(max_size=12), st.integers(0, 10**6))
def test_an_accepted_id_is_ascii_without_separators(name: str, version: int) -> None:
    try:
        found = rules.parse_id(f"{name}:{version}")
    except IngotError:
        return
    assert found.name.isascii()
    assert not set(found.name) & set(" /\\:\n\0")


def package(folder: Path, **model: object) -> Path:
    """A folder that meets every rule, its graph and tokenizer empty: the rules look at names."""
    folder.mkdir()
    config = {"model": {"decoder": {"filename": "model.onnx"}} | model, "search": {}}
    for name in ("model.onnx", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "inference_model.json").write_text(json.dumps({"Name": "m:1"}), encoding="utf-8")
    return folder


def test_a_folder_that_meets_every_rule_passes(tmp_path: Path) -> None:
    rules.check_folder(package(tmp_path / "m"), "m:1")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "genai_config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = package(tmp_path / "m")
    (folder / name).unlink()
    with pytest.raises(IngotError, match=f"{name}.*missing"):
        rules.check_folder(folder, "m:1")


def test_a_folder_that_the_scanner_would_skip_is_refused(tmp_path: Path) -> None:
    folder = package(tmp_path / "m")
    (folder / "download.tmp").touch()
    with pytest.raises(IngotError, match=r"download\.tmp.*scanner"):
        rules.check_folder(folder, "m:1")


def test_a_model_nested_in_a_model_is_refused(tmp_path: Path) -> None:
    package(package(tmp_path / "m") / "inner")
    with pytest.raises(IngotError, match=r"inner.genai_config\.json"):
        rules.check_folder(tmp_path / "m", "m:1")


def test_a_name_that_demands_cuda_is_refused_for_a_model_that_runs_on_cpu(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="demand CUDA, and this model runs on CPU"):
        rules.check_folder(package(tmp_path / "m"), "m-cuda-gpu:1")


def test_a_config_that_does_not_parse_is_named(tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(IngotError, match=r"genai_config\.json: not JSON"):
        rules.read_genai_config(tmp_path)

import json
from pathlib import Path

import pytest

from scripts.common import genai_config
from scripts.common.errors import IngotError
from scripts.package import rules


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
        genai_config.read(tmp_path)

"""A user's own Olive workflow as a recipe: it runs unmodified, and nothing in it is ignored."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.common.errors import IngotError
from scripts.convert.graph import summary
from scripts.convert.quantize import quantize

CLASSIC: dict[str, Any] = {
    "input_model": {"type": "HfModel", "config": {"model_path": "models/finetuned", "task": "text-generation"}},
    "systems": {
        "local_system": {
            "type": "LocalSystem",
            "config": {"accelerators": [{"execution_providers": ["CPUExecutionProvider"]}]},
        }
    },
    "passes": {
        "builder": {
            "type": "ModelBuilder",
            "config": {"precision": "int4", "quantization_config": {"block_size": 128, "is_symmetric": False}},
        }
    },
    "host": "local_system",
    "target": "local_system",
    "cache_dir": "cache",
    "output_dir": "models/onnx",
}


def classic(**builder: Any) -> dict[str, Any]:
    workflow = copy.deepcopy(CLASSIC)
    workflow["passes"]["builder"]["config"] |= builder
    return {"target": "cpu", "olive": workflow}


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_classic_workflow_gives_blocks_of_128_with_zero_points_and_generates(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    checkpoint = request.getfixturevalue(f"tiny_{family}")
    export = request.getfixturevalue(f"{family}_export")
    before = json.dumps(CLASSIC)
    quantize(export, classic(), tmp_path / "out", checkpoint)
    assert set(summary(tmp_path / "out" / "model.onnx")["blocks"]) == {(4, 128, True)}
    assert json.dumps(CLASSIC) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    litter = {"model_config.json", "footprint.json", "run_history.txt"}
    assert not litter & {path.name for path in (tmp_path / "out").iterdir()}


def test_old_names_of_options_are_translated(tiny_llama: Path, llama_export: Path, tmp_path: Path) -> None:
    recipe = classic(quantization_config=None, int4_block_size=64, int4_is_symmetric=True)
    quantize(llama_export, recipe, tmp_path / "out", tiny_llama)
    assert set(summary(tmp_path / "out" / "model.onnx")["blocks"]) == {(4, 64, False)}


def test_a_head_of_its_own_width_loads_with_tied_embeddings(
    tiny_llama: Path, llama_export: Path, tmp_path: Path
) -> None:
    recipe = classic(extra_options={"matmul_mixed_precision": "last_matmul:int8"})
    quantize(llama_export, recipe, tmp_path / "out", tiny_llama)
    assert (8, 128, True) in summary(tmp_path / "out" / "model.onnx")["blocks"]


def test_search_settings_reach_genai_config(tiny_llama: Path, llama_export: Path, tmp_path: Path) -> None:
    quantize(llama_export, classic(search={"top_k": 7}), tmp_path / "out", tiny_llama)
    settings = json.loads((tmp_path / "out" / "genai_config.json").read_text(encoding="utf-8"))
    assert settings["search"]["top_k"] == 7


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (classic(quantization_config={"blok_size": 128}), ["quantization_config: blok_size", "block_size"]),
        (classic(extra_options={"int4_blocksize": 32}), ["blocksize", "block_size"]),
        (classic(int4_block_size=32), ["block_size", "said twice", "128", "32"]),
        (classic(precision="fp16", quantization_config=None), ["fp16 on CPU", "second forward pass"]),
        (classic(precision="fp32"), ["quantization_config", "fp32 quantises nothing"]),
        (classic(precision="int5"), ["precision", "'int5' is not allowed"]),
        ({"target": "cpu", "olive": {"passes": {"a": {"type": "ModelBilder"}}}}, ["'ModelBilder'", "ModelBuilder"]),
        ({"target": "cpu", "olive": {}}, ["has no passes"]),
        ({"target": "cpu", "passes": [{"type": "StoreFloat61"}]}, ["'StoreFloat61'", "StoreFloat16"]),
        ({"target": "cpu", "passes": [{"type": "StoreFloat16", "keep": 1}]}, ["passes[1].keep: unknown key"]),
        ({"target": "cpu", "passes": [{"type": "WeightOnlyQuantization", "bits": "4"}]}, ["bits", "whole number"]),
        ({"target": "cpu", "passes": [{"type": "WeightOnlyQuantization", "bits": 5}]}, ["bits", "Allowed: 4, 8"]),
        ({"target": "cpu", "passes": [{"type": "OnnxKQuantQuantization", "bit": 4}]}, ["bit", "bits"]),
        ({"target": "cqu", "passes": [{"type": "StoreFloat16"}]}, ["target", "'cqu'", "cpu"]),
        ({"target": "cuda", "passes": [{"type": "StoreFloat16"}]}, ["target", "a graph for cuda is built otherwise"]),
        ({"target": "cpu", "pases": []}, ["pases", "Did you mean 'passes'"]),
    ],
)
def test_a_mistake_in_a_recipe_is_named(
    recipe: Any, words: Any, tiny_llama: Path, llama_export: Path, tmp_path: Path
) -> None:
    with pytest.raises(IngotError) as caught:
        quantize(llama_export, recipe, tmp_path / "out", tiny_llama)
    assert not [word for word in words if word not in str(caught.value)], caught.value
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_workflow_that_ends_without_a_model_fails_with_olives_reason(
    tiny_llama: Path, llama_export: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(tiny_llama, tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    config["intermediate_size"] *= 2  # the weights are whole, but no longer those of this configuration
    (checkpoint / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(IngotError, match=r"ended without a model: .*size"):
        quantize(llama_export, classic(), tmp_path / "out", checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_model_that_builds_but_does_not_load_is_refused(tiny_llama: Path, llama_export: Path, tmp_path: Path) -> None:
    recipe = classic(int4_algo_config="default")  # asymmetric and tied: the builder names a tensor that it never writes
    with pytest.raises(IngotError, match="does not load and generate"):
        quantize(llama_export, recipe, tmp_path / "out", tiny_llama)
    assert list(tmp_path.iterdir()) == []


def test_a_workflow_that_makes_onnx_but_no_genai_model_is_refused(
    llama_export: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    recipe = {"target": "cpu", "passes": [{"type": "OnnxHqqQuantization"}]}  # renames the graph's outputs
    with pytest.raises(IngotError, match=r"does not load and generate: .*logits"):
        quantize(llama_export, recipe, tmp_path / "out", tiny_llama)


def test_a_workflow_needs_the_checkpoint(llama_export: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="starts from the checkpoint"):
        quantize(llama_export, classic(), tmp_path / "out")


def test_an_adapter_inside_a_workflow_is_refused(llama_export: Path, tiny_llama: Path, tmp_path: Path) -> None:
    recipe = classic()
    recipe["olive"]["input_model"]["config"]["adapter_path"] = "adapters/mine"
    with pytest.raises(IngotError, match="adapter"):
        quantize(llama_export, recipe, tmp_path / "out", tiny_llama)


def test_a_pass_of_olives_own_takes_an_export_that_the_build_has_linked(tmp_path: Path, llama_export: Path) -> None:
    export = shutil.copytree(llama_export, tmp_path / "export")
    os.link(export / "model.onnx.data", tmp_path / "another name")
    recipe = {"target": "cpu", "passes": [{"type": "OnnxKQuantQuantization", "bits": 4}]}
    quantize(export, recipe, tmp_path / "onnx")
    assert (tmp_path / "onnx" / "model.onnx").is_file()


def test_code_of_the_users_runs_where_its_recipe_trusts_it(
    llama_export: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    recipe, ran = classic(), tmp_path / "ran"
    recipe["olive"]["data_configs"] = [{"name": "mine", "type": "DummyDataContainer", "user_script": "mine.py"}]
    (tmp_path / "there").mkdir()
    script = tmp_path / "there" / "mine.py"
    script.write_text(f"open({str(ran)!r}, 'w').close()\n", encoding="utf-8")
    with pytest.raises(IngotError, match=r"user_script: runs code that is not Olive's own.* trust = true"):
        quantize(llama_export, recipe, tmp_path / "out", tiny_llama)
    assert not ran.exists()
    trusted = {**recipe, "trust": True, "scripts": ["mine.py"]}
    quantize(llama_export, trusted, tmp_path / "out", tiny_llama, scripts=[script])
    assert ran.exists()
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_of_two_alternatives_one_is_made_where_the_recipe_trusts_the_workflow(
    llama_export: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    recipe = classic()
    builder = recipe["olive"]["passes"]["builder"]
    recipe["olive"]["passes"]["builder"] = [builder, copy.deepcopy(builder)]
    with pytest.raises(IngotError, match=r"passes.builder: has 2 alternatives.* trust = true"):
        quantize(llama_export, recipe, tmp_path / "out", tiny_llama)
    quantize(llama_export, {**recipe, "trust": True}, tmp_path / "out", tiny_llama)
    assert (tmp_path / "out" / "model.onnx").is_file()


@pytest.mark.parametrize("engine", [False, True])
def test_packages_of_a_workflow_are_left_out_where_its_recipe_trusts_it(
    llama_export: Path, tiny_llama: Path, tmp_path: Path, engine: bool
) -> None:
    recipe = classic()
    packaging = {"packaging_config": [{"type": "Dockerfile", "name": "mine"}]}
    recipe["olive"] |= {"engine": packaging} if engine else packaging
    with pytest.raises(IngotError, match=r"packaging_config: writes packages of its own.* trust = true"):
        quantize(llama_export, recipe, tmp_path / "out", tiny_llama)
    quantize(llama_export, {**recipe, "trust": True}, tmp_path / "out", tiny_llama)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert "model.onnx" in made and not made & {"Dockerfile", "docker_content"}

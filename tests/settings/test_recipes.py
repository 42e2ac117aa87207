"""recipes.toml and the workflows that it names: judged when they are read, before anything is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.settings.test_settings import MINIMAL, one, settings

HALF = 'passes = [{ type = "StoreFloat16" }]'
WEIGHTS = 'passes = [{ type = "WeightOnlyQuantization", '
BUILDER: dict[str, Any] = {"type": "ModelBuilder", "config": {"precision": "int4"}}


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ('target = "cpu"', "needs either passes"),
        ('passes = [{ type = "StoreFloat16" }]\nolive = "w.json"', "needs either passes"),
        ('pases = [{ type = "StoreFloat16" }]', "mine.pases: unknown key. Did you mean 'passes'?"),
        ("passes = []", "mine.passes: is empty"),
        ("passes = [{ bits = 4 }]", "mine.passes[1]: expected { type"),
        ('target = "openvino"\n' + HALF, "mine.target: unknown execution provider 'openvino'. Did you mean 'openvino-"),
        ('target = "openvino-npu"\n' + HALF, "mine.target: nothing is made for 'openvino-npu' yet: the compiler for"),
        ('target = "openvino-cpu"\nolive = "workflow.json"', "made by passes on the float32 export"),
        ('target = "openvino-gpu"\n' + WEIGHTS + 'bits = 4 }]', "passes[1].quantize_embedding: OpenVINO reads no"),
        ('target = "QNN"\n' + HALF, "mine.target: nothing is made for 'QNN' yet: Olive's QNN passes compile"),
        ('passes = [{ type = "OpenVINOIoUpdate" }]', "OpenVINOIoUpdate does not run beside Ingot yet: Olive's"),
        ('target = "cpuu"\n' + HALF, "mine.target: unknown execution provider 'cpuu'. Did you mean 'cpu'?"),
        ('target = "cuda"\n' + HALF, "mine.target: passes work on the float32 export"),
        ('passes = [{ type = "WeightOnlyQuantisation" }]', "Did you mean 'WeightOnlyQuantization'?"),
        ('passes = [{ type = "OnnxKQuantQuantisation" }]', "Did you mean 'OnnxKQuantQuantization'?"),
        ('passes = [{ type = "NVModelOptQuantization" }]', "only the CPU is supported yet"),
        (WEIGHTS + 'bits = 5 }]', "passes[1].bits: 5 is not allowed. Allowed: 4, 8"),
        (WEIGHTS + 'bits = "4" }]', "bits: expected a whole number, found '4'"),
        (WEIGHTS + 'block_size = 48 }]', "block_size: 48 is not allowed"),
        (WEIGHTS + 'algorithm = "gtpq" }]', "Did you mean 'gptq'?"),
        (WEIGHTS + 'eight_bit_nodes = [1] }]', "eight_bit_nodes[1]: expected text, found 1"),
        (WEIGHTS + 'blocksize = 32 }]', "blocksize: unknown key. Did you mean 'block_size'?"),
        (WEIGHTS + 'calibration = "a" }]', "calibration: unknown key"),
        (WEIGHTS + 'target_bits = 1 }]', "target_bits"),
        (WEIGHTS + 'target_bits = 5.0, bits = 4 }]', "bits: has no meaning beside target_bits"),
        ('passes = [{ type = "StoreFloat16" }, { type = "StoreFloat16", k = 1 }]', "mine.passes[2].k: unknown key"),
        ('passes = [{ type = "CacheQuantization" }, { type = "StoreFloat16" }]', "passes[1]: CacheQuantization is"),
        ('target = "openvino-cpu"\npasses = [{ type = "CacheQuantization" }]', "were not tried on OpenVINO"),
        ('passes = [{ type = "ModelBuilder", precision = "int4" }]', "ModelBuilder starts from the checkpoint"),
        ('passes = [{ type = "StoreFloat16" }]\ngates = { kll = 1 }', "mine.gates.kll: unknown key. Did you mean 'kl"),
        ('olive = "gone.json"', "gone.json"),
        ('olive = "folder"', "is a folder"),
        ('olive = "text.json"', "is not JSON"),
        ('olive = "deep.json"', "nested too deeply"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_recipe_is_found_when_it_is_read(tmp_path: Path, recipe: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.json").write_text("{passes: 1}", encoding="utf-8")
    (tmp_path / "deep.json").write_text("[" * 200_000, encoding="utf-8")
    (tmp_path / "workflow.json").write_text(json.dumps({"passes": {"b": BUILDER}}), encoding="utf-8")
    bad, good = settings(
        tmp_path, MINIMAL + 'precisions = ["mine", "int8"]\n' + MINIMAL.replace('"m"', '"other"'), f"[mine]\n{recipe}\n"
    ).models
    assert said in str(bad.problem)
    assert "recipes.toml: mine" in bad.problems[0].subject
    assert not good.problems


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ([], "has no passes"),
        ({"passes": {}}, "has no passes"),
        ({"passes": {"b": 1}}, "passes.b: expected a table, found 1"),
        ({"passes": {"b": {"type": "ModelBilder"}}}, "Did you mean 'ModelBuilder'?"),
        ({"passes": {"b": {"type": "ModelBuilder", "precision": "int5"}}}, "precision: 'int5' is not allowed"),
        ({"passes": {"b": {"type": "ModelBuilder", "precision": "fp16"}}}, "fp16 on CPU"),
        ({"passes": {"b": {**BUILDER, "int4_block_size": 17}}}, "int4_block_size: 17 is not allowed"),
        ({"passes": {"b": [BUILDER, BUILDER]}}, "2 alternatives"),
        ({"passes": {"b": BUILDER}, "input_model": {"adapter_path": "a"}}, "names an adapter"),
        ({"passes": {"b": BUILDER}, "data_configs": [{"user_script": "evil.py"}]}, "user_script: runs code"),
        ({"passes": {"b": BUILDER}, "systems": {"s": {"type": "Docker"}}}, "works elsewhere"),
        ({"passes": {"b": BUILDER}, "systems": {"s": {"type": "LocalSystem", "accelerators": [
            {"execution_providers": ["CUDAExecutionProvider"]}]}}}, "['CUDAExecutionProvider'] is not used"),
        ({"passes": {"b": BUILDER}, "engine": 3}, "engine: expected a table"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_workflow_is_found_when_it_is_read(tmp_path: Path, workflow: Any, said: str) -> None:
    (tmp_path / "w.json").write_text(json.dumps(workflow), encoding="utf-8")
    model = one(tmp_path, MINIMAL + 'precisions = ["w"]\n', '[w]\nolive = "w.json"\n')
    assert said in str(model.problem)


def test_a_recipe_that_no_model_names_is_judged_and_stops_nothing(tmp_path: Path) -> None:
    found = settings(tmp_path, MINIMAL, '[later]\npasses = [{ type = "Soon" }]\n')
    assert not found.models[0].problems
    assert "unknown pass 'Soon'" in str(found.recipe_problems[0])


def test_the_code_of_a_trusted_workflow_is_found_beside_it(tmp_path: Path) -> None:
    workflow = {"passes": {"b": BUILDER}, "data_configs": [{"name": "a", "user_script": "mine.py"}]}
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "w.json").write_text(json.dumps(workflow), encoding="utf-8")
    recipe = '[w]\nolive = "flows/w.json"\n'
    refused = one(tmp_path, MINIMAL + 'precisions = ["w"]\n', recipe)
    assert "user_script: runs code that is not Olive's own, which is refused" in str(refused.problem)
    missing = one(tmp_path, MINIMAL + 'precisions = ["w"]\n', recipe + "trust = true\n")
    assert "names code that is not there" in str(missing.problem)
    (tmp_path / "flows" / "mine.py").touch()
    [found] = one(tmp_path, MINIMAL + 'precisions = ["w"]\n', recipe + "trust = true\n").recipes
    assert found.scripts == (tmp_path / "flows" / "mine.py",)
    assert (found.steps["trust"], found.steps["scripts"]) == (True, ["mine.py"])


def test_passes_run_no_code_to_be_trusted(tmp_path: Path) -> None:
    recipe = '[w]\npasses = [{ type = "StoreFloat16" }]\ntrust = true\n'
    assert "w.trust: has no meaning beside passes" in str(
        one(tmp_path, MINIMAL + 'precisions = ["w"]\n', recipe).problem
    )


@pytest.mark.parametrize(
    ("passes", "size"),
    [
        (WEIGHTS + "bits = 4 }]", 0.85), (WEIGHTS + "bits = 8 }]", 1.2), (HALF, 2.1),
        (WEIGHTS + "bits = 4, quantize_embedding = false }]", 1.2), ('olive = "w.json"', 4.2),
        (WEIGHTS + "target_bits = 5.0 }]", 0.625), (WEIGHTS + "target_bits = 4.6 }]", 0.575),
    ],
)  # fmt: skip
def test_the_disk_that_a_precision_takes_goes_by_the_bits_that_it_asks_for(
    tmp_path: Path, passes: str, size: float
) -> None:
    workflow = {"passes": {"b": {"type": "ModelBuilder", "config": {"precision": "fp32"}}}}
    (tmp_path / "w.json").write_text(json.dumps(workflow), encoding="utf-8")
    [recipe] = one(tmp_path, MINIMAL + 'precisions = ["w"]\n', f"[w]\n{passes}\n").recipes
    assert recipe.bytes_per_weight == pytest.approx(size)
    assert recipe.bytes_meanwhile == (0.7 if "target_bits" in passes else 0), "each matrix, as it would be rounded"


def test_a_target_between_two_numbers_of_bits_is_finer_than_the_lower(tmp_path: Path) -> None:
    recipes = f"[a]\n{WEIGHTS}bits = 4 }}]\n[b]\n{WEIGHTS}target_bits = 4.6 }}]\n[c]\n{WEIGHTS}target_bits = 4.9 }}]\n"
    found = one(tmp_path, MINIMAL + 'precisions = ["a", "b", "c"]\n', recipes).recipes
    assert [recipe.fineness[0] for recipe in found] == [4, 4.6, 4.9]

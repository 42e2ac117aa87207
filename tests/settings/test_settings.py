"""models.toml and recipes.toml: what they say becomes settings, and mistakes are named once, at the door."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.errors import IngotError
from scripts.settings.models import Model, Settings, read
from scripts.settings.recipes import PROJECT_CONFIG

MINIMAL = '[[model]]\nname = "m"\nsource = { path = "weights" }\n'


def settings(folder: Path, models: str, recipes: str | None = None) -> Settings:
    (folder / "models.toml").write_text(models, encoding="utf-8")
    if recipes is not None:
        (folder / "recipes.toml").write_text(recipes, encoding="utf-8")
    return read(folder)


def one(folder: Path, models: str, recipes: str | None = None) -> Model:
    [model] = settings(folder, models, recipes).models
    return model


def test_a_name_and_a_source_are_enough(tmp_path: Path) -> None:
    model = one(tmp_path, MINIMAL)
    assert [variant.name for variant in model.variants] == ["m", "m-int4", "m-int8", "m-fp16"]
    assert model.source.path == tmp_path / "weights"
    assert model.deploy == "all"
    assert model.precisions[0].model_id == "m-int4-generic-cpu:1"


def test_the_projects_own_configuration_is_sound() -> None:
    [triage] = read(PROJECT_CONFIG).models
    assert [recipe.name for recipe in triage.recipes] == ["int4", "int4-best", "int8", "fp16"]
    assert triage.cases and triage.schema and triage.text and triage.tickets


def test_the_readmes_example_is_sound(tmp_path: Path) -> None:
    text = (PROJECT_CONFIG.parent / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(\[\[model\]\].*?)```", text, re.DOTALL)
    for name in ("cases.jsonl", "answer.schema.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    assert len(example.splitlines()) < 10
    assert one(tmp_path, example).name == "helpdesk"


def test_the_readmes_recipes_are_sound(tmp_path: Path) -> None:
    text = (PROJECT_CONFIG.parent / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(\[int4-wide\].*?)```", text, re.DOTALL)
    (tmp_path / "finetuned_conversion_config.json").write_text('{"passes": {}}', encoding="utf-8")
    model = one(tmp_path, MINIMAL + 'precisions = ["int4-wide", "mine"]\n', example)
    assert [recipe.needs_checkpoint for recipe in model.recipes] == [False, True]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    model = one(tmp_path, MINIMAL + 'adapters = [{ path = "../lora", weight = 0.5 }]\n')
    assert model.adapters[0].path == (tmp_path / ".." / "lora").resolve()
    assert model.adapters[0].weight == 0.5


def test_a_model_is_calibrated_on_the_projects_text_and_its_own(tmp_path: Path) -> None:
    general = PROJECT_CONFIG / "train" / "general.txt"
    assert one(tmp_path, MINIMAL).calibration == (general,)
    (tmp_path / "talk.jsonl").write_text('{"text": "hello"}', encoding="utf-8")
    model = one(tmp_path, MINIMAL + 'calibration = "talk.jsonl"\nprecisions = ["int4", "int4-best"]\n')
    assert model.calibration == (general, tmp_path / "talk.jsonl")
    assert [recipe.calibrates for recipe in model.recipes] == [False, True]
    [triage] = read(PROJECT_CONFIG).models
    assert triage.calibration == (general, triage.tickets)


def test_a_models_gate_overrides_the_recipes(tmp_path: Path) -> None:
    model = one(tmp_path, MINIMAL + "gates.int4 = { kl = 0.1 }\ngates.export = { kl = 0.01 }\n")
    assert model.precisions[0].quality_gates["kl"] == 0.1
    assert model.precisions[1].quality_gates["kl"] == 0.01
    assert model.float.quality_gates == {"kl": 0.01, "kl_p99": 2e-3}


def test_a_users_recipe_replaces_the_projects_of_that_name(tmp_path: Path) -> None:
    model = one(tmp_path, MINIMAL, '[int4]\npasses = [{ type = "Mine" }]\n')
    assert model.recipes[0].steps["passes"] == [{"type": "Mine"}]
    assert model.recipes[1].steps["passes"][0]["type"] != "Mine"


def test_a_workflow_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps({"passes": {}}), encoding="utf-8")
    model = one(tmp_path, MINIMAL + 'precisions = ["w"]\n', '[w]\nolive = "w.json"\n')
    assert model.recipes[0].steps["olive"] == {"passes": {}}


@pytest.mark.parametrize(
    ("models", "recipes", "said"),
    [
        ("", None, "no [[model]]"),
        ('[[model]]\nname = "m"\n', None, "exactly one of path, gguf, wheel, hub"),
        (MINIMAL + 'nonsense = 1\n', None, "unknown key"),
        (MINIMAL + 'gates.int2 = { kl = 1.0 }\n', None, "int2"),
        (MINIMAL + 'gates.int4 = { kl = -1.0 }\n', None, "out of range"),
        (MINIMAL + 'calibration = "gone.txt"\n', None, "gone.txt"),
        (MINIMAL + 'context_length = true\n', None, "expected a whole number"),
        (MINIMAL + 'adapters = [{ weight = 1.0 }]\n', None, "adapters[1].path"),
        ('[foundry]\ncache = "a"\napp = "b"\n' + MINIMAL, None, "both cache and app"),
        (MINIMAL, '[x]\ntarget = "cpu"\n', "passes"),
        (MINIMAL, '[x]\npasses = [{ bits = 4 }]\n', "passes[1]"),
        (MINIMAL, '[x]\nolive = "gone.json"\n', "gone.json"),
        (MINIMAL, '[onnx]\npasses = []\n', "reserved"),
        (MINIMAL + MINIMAL.replace('"m"', '"M"'), None, "Rename"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_place(tmp_path: Path, models: str, recipes: str | None, said: str) -> None:
    with pytest.raises(IngotError, match=re.escape(said)) as error:
        settings(tmp_path, models, recipes)
    assert ".toml" in error.value.subject


@given(name=st.text(max_size=20))
def test_any_name_is_either_good_for_foundry_and_file_systems_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    try:
        model = one(folder, f'[[model]]\nname = {json.dumps(name)}\nsource = {{ path = "w" }}\n')
    except IngotError as error:
        assert "models.toml" in error.subject
    else:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*:\d+", model.precisions[0].model_id)
        assert model.name == name

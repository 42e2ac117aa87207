"""The JSON schemas that editors read: made of the definitions, and of the same opinion as the settings."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import tomli

from scripts.cases.cases import Expect
from scripts.settings import schema
from scripts.settings.recipes import PROJECT_CONFIG
from scripts.settings.tables import ModelTable
from tests.settings.test_settings import MINIMAL

README = (PROJECT_CONFIG.parent / "README.md").read_text(encoding="utf-8")
MADE = {"models": schema.models, "recipes": schema.recipes}


def valid(name: str, text: str) -> bool:
    validator = jsonschema.Draft202012Validator(MADE[name]())
    return bool(validator.is_valid(tomli.loads(text)))


@pytest.mark.parametrize("name", MADE)
def test_the_published_schema_is_that_of_the_code(name: str) -> None:
    published = json.loads((PROJECT_CONFIG / f"{name}.schema.json").read_text(encoding="utf-8"))
    made: Any = MADE[name]()
    jsonschema.Draft202012Validator.check_schema(made)
    assert published == json.loads(json.dumps(made)), "python -m scripts.settings.schema"


@pytest.mark.parametrize("name", MADE)
def test_the_projects_own_file_names_its_schema_and_is_valid_by_it(name: str) -> None:
    text = (PROJECT_CONFIG / f"{name}.toml").read_text(encoding="utf-8")
    [named] = re.findall(r"\A#:schema (.+)\n", text)
    assert (PROJECT_CONFIG / named).samefile(PROJECT_CONFIG / f"{name}.schema.json")
    assert valid(name, text)


def test_the_readmes_examples_are_valid() -> None:
    for name, start in (("models", r"\[\[model\]\]"), ("recipes", r"\[int4-wide\]")):
        [example] = re.findall(rf"```toml\n(?:#:schema.*\n)?({start}.*?)```", README, re.DOTALL)
        assert valid(name, example)


def test_the_readme_explains_every_key() -> None:
    [table] = re.findall(r"### Every key of models.toml\n\n(.*?)\n\n", README, re.DOTALL)
    explained = set(re.findall(r"`([a-z_]+)", "".join(row.split("|")[1] for row in table.splitlines()[2:])))
    assert explained >= set(ModelTable.__struct_fields__)


def test_the_readme_explains_every_key_of_what_a_case_expects() -> None:
    [table] = re.findall(r"\| key of `expect` .*?\n\n", README, re.DOTALL)
    assert set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)) == set(Expect.__struct_fields__)


@pytest.mark.parametrize(
    "keys",
    [
        "precision = ['int4']", "precisions = []", "deploy = 'al'", "gates.int4 = { kl = -1.0 }", "context_length = 1",
        "sampling = { temperature = 3 }", "adapters = [{ weight = 1.0 }]", "limits.exprot = { minutes = 1 }",
        "template = ''", "evaluation = { case = 'a' }",
    ],
)  # fmt: skip
def test_an_editor_marks_a_mistake_in_a_model(keys: str) -> None:
    assert valid("models", MINIMAL)
    assert not valid("models", MINIMAL + keys)


@pytest.mark.parametrize(
    "source",
    ["{}", "{ path = 'a', gguf = 'b' }", "{ pth = 'a' }", "{ hub = 'a/b', revision = 'main' }", "{ wheel = 'a==1' }"],
)
def test_an_editor_marks_a_mistake_in_a_source(source: str) -> None:
    assert not valid("models", f"[[model]]\nname = 'm'\nsource = {source}\n")


@pytest.mark.parametrize(
    ("recipe", "sound"),
    [
        ('passes = [{ type = "WeightOnlyQuantization", bits = 8 }]', True),
        ('passes = [{ type = "OnnxKQuantQuantization", bits = 4 }, { type = "StoreFloat16" }]', True),
        ('olive = "w.json"', True),
        ('passes = [{ type = "WeightOnlyQuantization", bits = 5 }]', False),
        ('passes = [{ type = "WeightOnlyQuantization", bit = 4 }]', False),
        ('passes = [{ type = "WeightOnlyQuantisation" }]', False),
        ('passes = [{ type = "ModelBuilder", precision = "int4" }]', False),
        ('passes = [{ bits = 4 }]', False),
        ('olive = "w.json"\npasses = [{ type = "StoreFloat16" }]', False),
        ('olive = "w.json"\ntarget = "cuda"', True),
        ('olive = "w.json"\ntarget = "cudaa"', False),
        ("label = 'neither'", False),
    ],
)  # fmt: skip
def test_an_editor_tells_sound_recipes_from_others(recipe: str, sound: bool) -> None:
    assert valid("recipes", f"[mine]\n{recipe}\n") == sound

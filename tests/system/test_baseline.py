"""What fine-tuning gained, through `doit`: the model without it is asked the same cases, and never stops a build."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.report import render
from tests.checkpoint.program import tensors
from tests.system.project import Project

#: All but what measures speed, for which a test would wait until it has the machine to itself.
TASKS = ("recommend", "baseline")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path, tiny_llama: Path) -> tuple[Project, Path]:
    """A whole build of a model that knows its cases, whose base knows none and has no chat template; that base."""
    folder = tmp_path_factory.mktemp("baseline")
    project, base = Project(folder / "a project"), shutil.copytree(tiny_llama, folder / "the base")
    (base / "chat_template.jinja").unlink()
    project.model(
        name="facts", source={"path": tiny_trained}, base={"path": base}, precisions=["int8"],
        gates={"int8": {"domain_points": 40}}, evaluation=project.facts(),
    )  # fmt: skip
    ran = project.doit(*TASKS)
    assert ran.code == 0, ran.out
    return project, base


def rendered(project: Project, folder: Path) -> dict[str, Any]:
    """The report of a build, in `folder`, without waiting for what measures speed; its one model."""
    models = [{"name": "facts", "precisions": ["int8"], "base": "facts/base"}]
    render.render(project.build, models, None, None, folder)
    [model] = json.loads((folder / "report.json").read_text(encoding="utf-8"))["models"]
    return dict(model)


def test_the_report_says_what_fine_tuning_gained_and_what_is_kept(whole: tuple[Project, Path], tmp_path: Path) -> None:
    project, _ = whole
    model = rendered(project, tmp_path / "report")
    assert model["base"]["domain"]["score"] == 0
    assert model["base"]["domain"]["own_template"] is False
    assert model["export"]["gain"]["points"] == 100
    [row] = model["precisions"]
    assert (row["gain"]["points"], row["gain"]["kept"]) == (100, 100)
    assert row["gain"]["kept_interval"][0] < 100
    for name in ("table.txt", "report.md"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8").replace("\\", "")
        assert "fine-tuning: from 0.0% to 100.0% of the cases, +100.0 points (54 to 100)" in text
        assert "the base has no chat template and was asked in the fine-tuned model's" in text
        assert "kept of that: int8 100% (" in text
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "What fine-tuning gained" in page
    assert 'data-path="models.0.precisions.0.gain.kept"' in page


def test_the_card_of_a_precision_says_what_fine_tuning_gained(whole: tuple[Project, Path]) -> None:
    card = (whole[0].build / "facts/int8/package/README.md").read_text(encoding="utf-8")
    assert "## What fine-tuning gained" in card
    assert "Of 8 of its 8 cases, the float model gets 100 % (68 to 100) right, and the model without its" in card
    assert "asked in the same chat template, having none of its own, 0 % (0 to 32): +100 points (54 to 100)." in card
    assert "fine-tuning" not in (whole[0].build / "facts/package/README.md").read_text(encoding="utf-8")


def test_the_base_is_asked_in_the_same_runtime_and_deployed_nowhere(whole: tuple[Project, Path]) -> None:
    project, base = whole
    result = project.json("facts/baseline.json")
    assert result["runtime"] == project.json("facts/domain.json")["runtime"]
    assert result["digest"] == project.json("facts/domain.json")["digest"]
    assert (project.build / "facts/base/checkpoint/model.safetensors").resolve() == (base / "model.safetensors")
    assert "facts-base" not in project.doit("list", "--all", "deploy", "verify", "bench").out


def test_a_base_that_cannot_be_built_is_skipped_with_the_reason(whole: tuple[Project, Path], tmp_path: Path) -> None:
    project, base = whole
    assert project.doit(*TASKS).steps == frozenset()
    weights = base / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:5000])
    ran = project.doit(*TASKS)
    assert ran.code == 0, ran.out
    assert "checkpoint:facts-base" not in ran.steps  # it was refused before a process was started for it
    model = rendered(project, tmp_path / "report")
    assert (model["base"]["verdict"], model["export"]["gain"], model["recommended"]) == ("skipped", None, "int8")
    assert "model.safetensors" in model["base"]["reasons"][0]
    text = (tmp_path / "report" / "table.txt").read_text(encoding="utf-8")
    assert "fine-tuning: what it gained is not known: " in text
    assert project.doit("gate", *TASKS).code == 0
    weights.write_bytes(kept)
    ran = project.doit(*TASKS)
    assert ran.code == 0, ran.out
    assert rendered(project, tmp_path / "again")["export"]["gain"]["points"] == 100


def test_a_changed_case_asks_again_and_exports_nothing(whole: tuple[Project, Path]) -> None:
    project, _ = whole
    cases = project.config / "eval" / "cases.jsonl"
    text = cases.read_text(encoding="utf-8")
    row = json.loads(text.splitlines()[0]) | {"max_tokens": 23}
    cases.write_text("\n".join([json.dumps(row), *text.splitlines()[1:]]), encoding="utf-8")
    ran = project.doit("baseline")
    cases.write_text(text, encoding="utf-8")
    assert (ran.code, ran.steps) == (0, frozenset({"baseline:facts"})), ran.out
    assert tensors(project.build / "facts/base/checkpoint")


def test_where_there_is_nothing_to_compare_nothing_is_built(project: Project, tiny_trained: Path) -> None:
    project.model(name="plain", source={"path": tiny_trained}, evaluation=project.facts())
    ran = project.doit("baseline")
    assert "baseline: no model has what it needs: evaluation.cases, and adapters or base, in models.toml" in ran.out
    project.model(name="plain", source={"path": tiny_trained}, base={"path": tiny_trained.parent})
    assert "base" not in project.doit("list", "--all", "checkpoint").out

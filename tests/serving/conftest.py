"""A configuration whose model "tiny" is deployed in precision "fp32", without a build; and doit as users run it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.common import json_files
from scripts.foundry import marks
from scripts.foundry.deploy import deploy
from scripts.results import base
from tests import tiny
from tests.served import MODEL_ID, build_onnx, write_package
from tests.system.project import Project

RECIPES = "".join(f'[{name}]\npasses = [{{ type = "StoreFloat16" }}]\n' for name in ("fp32", "half"))
CASE = {"id": "sky", "prompt": "Which colour is the sky?", "max_tokens": 24, "expect": {"contains": ["blue"]}}


def cache_of(project: Project) -> Path:
    return project.build / "foundry" / "cache" / "models"


def make(folder: Path, package: Path) -> Project:
    """What the fixture gives, to be changed."""
    project = Project(folder)
    (project.config / "recipes.toml").write_text(RECIPES, encoding="utf-8")
    (project.config / "eval" / "cases.jsonl").write_text(json.dumps(CASE), encoding="utf-8")  # no line end: a user's
    project.model(
        name="tiny", source={"path": package}, precisions=["half", "fp32"], evaluation={"cases": "eval/cases.jsonl"}
    )
    result = deploy(package, MODEL_ID, cache_of(project), project.config)
    base.write(project.build / "tiny" / "fp32" / "deploy.json", result)
    held = {"verdict": "refused", "reasons": ["KL 0.4 is above the gate of 0.25"], "id": "x", "cache": "y"}
    json_files.write(project.build / "tiny" / "half" / "deploy.json", held)
    advice = {"recommended": "fp32", "reasons": [], "precisions": {}}
    json_files.write(project.build / "tiny" / "recommend.json", advice)
    marks.note_verified(Path(str(result.path)), "a runtime", "2026-01-02T03:04:05+00:00")
    return project


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Project]:
    """Not to be changed but for its cases."""
    yield make(tmp_path_factory.mktemp("served") / "a project", package)


@pytest.fixture
def endless(tmp_path: Path, tiny_llama: Path) -> Project:
    """A model that was taught nothing, says anything, and whose settings let no answer end."""
    onnx = build_onnx(tiny_llama, tmp_path / "served")
    settings = json_files.read(onnx / "genai_config.json")
    settings["search"] |= {"do_sample": True, "top_k": 50, "temperature": 1.0, "min_length": 4096}
    json_files.write(onnx / "genai_config.json", settings)
    package = write_package(onnx, tmp_path / "package")
    return make(tmp_path / "a project", package)


SKY, GRASS = tiny.FACTS[0], tiny.FACTS[1]

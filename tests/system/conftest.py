"""One whole build of a tiny trained model, through doit, that many tests look at and a few carefully change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.project import Project, Ran


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "a project")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path) -> Path:
    """The user's own copy of the trained checkpoint, which tests may change."""
    return shutil.copytree(tiny_trained, tmp_path_factory.mktemp("user") / "my weights")


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> tuple[Project, Ran]:
    """The build, and how its first `doit` went."""
    project = Project(tmp_path_factory.mktemp("whole") / "a project")
    settings(project, weights)
    return project, project.doit()


def settings(project: Project, weights: Path, **changes: object) -> None:
    """models.toml of the shared build."""
    values = {
        "name": "facts", "source": {"path": weights}, "precisions": ["int4", "int8"], "license": "mit",
        "sampling": {"temperature": 0.0}, "evaluation": project.facts(),
    }  # fmt: skip
    project.model(**{**values, **changes})


@pytest.fixture
def built(first: tuple[Project, Ran], weights: Path) -> Iterator[Project]:
    """The build, up to date with its first settings; a test may change them."""
    project = first[0]
    settings(project, weights)
    assert project.doit().code == 0
    yield project
    settings(project, weights)

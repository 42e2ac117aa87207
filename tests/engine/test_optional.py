"""Steps that read the outputs of others where there are any, without asking for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.projects import Project

GRAPH = (
    {"name": "copy:a", "verb": "copy", "inputs": ["src/a"]},
    {"name": "extra", "verb": "copy", "inputs": ["src/b"]},
    {"name": "reader", "verb": "join", "inputs": ["copy:a"], "optional": ["extra"]},
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", GRAPH)


def test_what_is_optional_is_not_built_for_the_one_who_reads_it(project: Project) -> None:
    assert project.built("reader") == {"copy:a", "reader"}
    assert project.built("reader") == set()


def test_who_reads_it_runs_again_once_it_was_made(project: Project) -> None:
    project.built("reader")
    assert project.built("extra") == {"extra"}
    assert "extra" in project.doit("why", "reader")
    assert project.built("reader") == {"reader"}
    assert project.built("reader") == set()


def test_in_one_run_it_counts_as_it_came_out(project: Project) -> None:
    project.built("reader")
    assert project.built("extra", "reader") == {"extra", "reader"}
    assert project.built("extra", "reader") == set()


def test_that_it_is_stale_makes_nobody_run(project: Project) -> None:
    project.built("extra", "reader")
    project.write("src/b/y.txt", "gamma")
    assert project.built("reader") == set()
    assert project.built("extra", "reader") == {"extra", "reader"}


def test_that_it_failed_is_news_too(project: Project) -> None:
    project.built("extra", "reader")
    project.set("extra", verb="fail", result=True)
    project.doit("extra", code=1)
    assert project.built("reader") == {"reader"}


def test_that_it_is_gone_is_news_too(project: Project) -> None:
    project.built("extra", "reader")
    project.doit("clean", "extra")
    assert project.built("reader") == {"reader"}

"""Large files go once all that reads them is made, nothing is stale for it, and they come back when they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.projects import Project

#: A large output, linked by a second one; two steps that read it.
GRAPH: tuple[dict[str, Any], ...] = (
    {"name": "blow", "verb": "blow", "inputs": ["src/a"], "parameters": {"size": 3 << 20}, "stored": False,
     "removed_after": ["count", "again"]},
    {"name": "relink", "verb": "relink", "inputs": ["blow"], "stored": False, "removed_after": ["count", "again"]},
    {"name": "count", "verb": "count", "inputs": ["relink"], "parameters": {"at-most": 1 << 30}},
    {"name": "again", "verb": "count", "inputs": ["blow"], "parameters": {"at-most": 1 << 30}, "result": True},
)  # fmt: skip
LARGE = ("blow/big.bin", "relink/big.bin")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", GRAPH)


def there(project: Project) -> list[str]:
    return [name for name in LARGE if (project.build / name).exists()]


def test_they_go_when_all_is_made_and_nothing_is_stale(project: Project) -> None:
    assert project.built() == {"blow", "relink", "count", "again"}
    assert there(project) == []
    assert project.built() == set()
    assert project.doit("why").startswith("nothing would run")
    said = project.doit("check", "--deep")
    assert "big.bin removed to save disk" in said and "4 whole" in said


def test_they_stay_while_a_step_that_reads_them_is_not_made(project: Project) -> None:
    project.built("relink")
    assert there(project) == list(LARGE)
    project.set("again", parameters={"at-most": 1 << 30, "delay": 0.01}, verb="fail")
    project.built(code=1)
    assert there(project) == list(LARGE)


def test_what_needs_them_has_them_built_again_and_why_says_so(project: Project) -> None:
    project.built()
    project.set("count", parameters={"at-most": 1 << 29})
    told = project.doit("why")
    assert "blow  (" in told and "big.bin; relink needs it" in told and "relink  (" in told and "count  (" in told
    said = project.doit()
    assert "relink: built again, as count needs what was removed of it" in said
    assert there(project) == []
    assert project.built() == set()


def test_a_change_of_the_source_builds_as_ever(project: Project) -> None:
    project.built()
    project.write("src/a/x.txt", "another text")
    assert project.built() == {"blow", "relink", "count", "again"}
    assert there(project) == []


def test_what_was_kept_before_goes_with_the_setting_alone(project: Project) -> None:
    for name in ("blow", "relink"):
        project.set(name, removed_after=["nobody"])
    rows = [{key: value for key, value in row.items() if key != "removed_after"} for row in GRAPH]
    project.declare([{**row, "stored": True} for row in rows])
    project.built()
    assert there(project) == list(LARGE)
    project.declare(GRAPH)
    assert project.built() == set()
    assert there(project) == []
    assert not list((project.build / "store").rglob("big.bin")), "the store's copy would hold the disk"


def test_an_edit_of_what_is_left_is_still_seen(project: Project) -> None:
    project.built()
    (project.build / "blow" / "extra.txt").write_text("added")
    assert "blow" in project.built()
    assert project.built() == set()

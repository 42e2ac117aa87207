"""A step that reads a part of another's output: it is stale for what is in that part, and for nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine.projects import Project

GRAPH = (
    {"name": "copy", "verb": "copy", "inputs": ["src/a"], "parts": {"model": ["!*card.txt"], "card": ["*card.txt"]}},
    {"name": "measure", "verb": "count", "inputs": [["copy", "model"]]},
    {"name": "publish", "verb": "count", "inputs": ["copy"]},
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path, GRAPH)
    made.write("src/a/card.txt", "What it is")
    assert made.built() == {"copy", "measure", "publish"}
    assert made.built() == set()
    return made


def test_what_is_outside_the_part_makes_no_reader_stale(project: Project) -> None:
    project.write("src/a/card.txt", "What it is good for")
    assert project.built() == {"copy", "publish"}
    assert project.built() == set()


def test_what_is_in_the_part_makes_its_reader_stale(project: Project) -> None:
    project.write("src/a/x.txt", "omega and alpha!")
    assert project.built() == {"copy", "measure", "publish"}


def test_why_tells_which_part_changed(project: Project) -> None:
    project.write("src/a/x.txt", "omega and alpha!")
    project.doit("copy")
    said = json.loads(project.doit("why", "--json", "measure"))
    [reason] = said["would_run"][0]["reasons"]
    assert (reason["kind"], reason["what"]) == ("input changed", "copy (model)")
    assert reason["old"] != reason["new"]


def test_a_part_that_is_declared_otherwise_is_looked_at_anew(project: Project) -> None:
    project.set("copy", parts={"model": ["!*card.txt", "!*x.txt"]})
    assert project.built() == {"measure"}
    project.write("src/a/x.txt", "omega and alpha!")
    assert project.built() == {"copy", "publish"}


def test_an_output_that_was_changed_by_hand_is_not_read_in_part_either(project: Project) -> None:
    copied = next(project.build.glob("copy/*x.txt"))
    copied.chmod(0o644)
    copied.write_text("changed by hand")
    assert "copy" in project.built()
    assert copied.read_text() == "alpha and omega"

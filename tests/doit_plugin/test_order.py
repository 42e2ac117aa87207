"""What measures comes last, one step at a time, whatever order it is declared in; and nothing is left out for that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.engine.projects import Project
from tests.faults import forked

COPY: dict[str, Any] = {"verb": "copy", "inputs": ["src/a"]}
SLOW = {**COPY, "parameters": {"delay": 0.5}}
MEASURES = {**COPY, "alone": True}
GRAPH: list[dict[str, Any]] = [
    {"name": "bench:a", **MEASURES},
    {"name": "bench:b", **MEASURES},
    {"name": "seen", "verb": "count", "inputs": [], "verdicts": ["bench:a", "bench:b"]},
    {"name": "one", **SLOW},
    {"name": "two", **SLOW, "inputs": ["one"]},
    {"name": "three", **COPY, "inputs": ["two"]},
]


def ended(said: str) -> list[str]:
    return re.findall(r"^[✓✗–] (\S+)", said, re.MULTILINE)


def with_plain(folder: Path, fields: str) -> Project:
    """The project with two tasks of doit's plain kind; `fields` are the first one's own."""
    project = Project(folder / "project", GRAPH)
    plain = f"""
def task_plain():
    return {{"actions": [lambda: print("plain ran")], "verbosity": 2, {fields}}}

def task_prep():
    return {{"actions": ["true"]}}
"""
    (project.folder / "dodo.py").write_text((project.folder / "dodo.py").read_text() + plain)
    return project


@pytest.mark.parametrize("words", [(), ("-n", "1"), ("-n", "2"), ("-n", "5")])
def test_what_measures_runs_after_all_that_does_not_need_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    said = forked.run(Project(tmp_path / "project", GRAPH), *words)
    names = ended(said)
    assert sorted(names[:3]) == ["one", "three", "two"] and names[3:] == ["bench:a", "bench:b", "seen"]
    assert "waiting for" not in said


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["bench:b"], ["bench:b"]),
        (["-n", "2", "bench:b", "bench:a"], ["bench:b", "bench:a"]),
        (["-n", "2", "seen"], ["bench:a", "bench:b", "seen"]),
        (["--single", "bench:a"], ["bench:a"]),
        (["--single", "one", "bench:b", "bench:a"], ["one", "bench:a", "bench:b"]),
    ],
)
def test_what_measures_can_be_asked_for_alone(tmp_path: Path, words: list[str], runs: list[str]) -> None:
    said = forked.run(Project(tmp_path / "project", GRAPH), *words)
    assert sorted(ended(said)) == sorted(runs)


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_a_plain_task_that_a_measurement_sets_up_waits_for_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    project = with_plain(tmp_path, '"setup": ["bench:a"]')
    said = forked.run(project, *words, "plain", "one")
    assert {"one", "bench:a"} <= set(ended(said)) and said.index("✓ bench:a") < said.index("plain ran")


@pytest.mark.parametrize("words", [("-n", "1"), ("-n", "2")])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ('"uptodate": [True]', 0),
        ('"uptodate": [False], "actions": ["false"]', 1),
        ('"file_dep": ["not there"]', 2),  # doit fails it before it sets anything up
        ("", 0),
    ],
)
def test_what_would_have_set_up_a_task_that_need_not_run_keeps_no_measurement_waiting(
    tmp_path: Path, words: tuple[str, ...], fields: str, code: int
) -> None:
    project = with_plain(tmp_path, f'"setup": ["prep"], {fields}')
    if not fields:
        forked.run(project, "ignore", "plain")
    said = forked.run(project, *words, "--continue", "plain", "bench:a", "one", code=code)
    assert [name for name in ended(said) if name in ("one", "bench:a")] == ["one", "bench:a"]
    assert ("prep" in ended(said)) == (code == 1)


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_a_failure_keeps_no_measurement_waiting(tmp_path: Path, words: tuple[str, ...]) -> None:
    project = Project(tmp_path / "project", [*GRAPH, {"name": "broken", "verb": "fail", "inputs": ["src/a"]}])
    said = forked.run(project, *words, code=1)
    assert ended(said)[-3:] == ["bench:a", "bench:b", "seen"] and "✗ broken" in said
    again = forked.run(project, *words, code=1)
    assert ended(again) == ["broken"]


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_measurements_that_are_up_to_date_are_not_made_again(tmp_path: Path, words: tuple[str, ...]) -> None:
    project = Project(tmp_path / "project", GRAPH)
    forked.run(project)
    assert ended(forked.run(project, *words)) == []
    project.set("three", parameters={"delay": 0.1})
    assert ended(forked.run(project, *words)) == ["three"]

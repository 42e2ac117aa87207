"""Large files go once all that reads them is made, nothing is stale for it, and they come back when they are needed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from scripts.engine import execute, locks
from tests.engine.projects import Project
from tests.faults import forked

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


def test_a_step_that_really_fails_after_they_were_built_again_is_run_once(project: Project) -> None:
    project.built()
    project.set("again", verb="fail", parameters={})
    said = project.doit(code=1)
    assert "blow: built again, as again needs what was removed of it" in said
    assert "another build" not in said and said.count("is not to this verb's taste") == 1


#: A step that reads the large output after a while, and a build that does without it then.
READER: tuple[dict[str, Any], ...] = (
    {"name": "blow", "verb": "blow", "inputs": ["src/a"], "parameters": {"size": 3 << 20}, "stored": False},
    {"name": "again", "verb": "count", "inputs": ["blow"], "parameters": {"at-most": 1 << 30}, "result": True},
    {"name": "slow", "verb": "copy", "inputs": ["src/b", "blow"], "parameters": {"delay": 4.0}},
)
REMOVES = ({**READER[0], "removed_after": ["again"]}, READER[1])


def reading(folder: Path, removes: tuple[dict[str, Any], ...]) -> tuple[Project, int]:
    """A project one of whose steps is at it in a process of its own; `removing.json` declares the removal."""
    project = Project(folder, removes)
    (folder / "graph.json").rename(folder / "removing.json")
    project.declare(READER)
    forked.run(project, "again")
    running = forked.start(project, "slow")
    forked.wait_for(lambda: list(project.build.glob(".work/slow.*/slow/*")))
    return project, running


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_they_stay_while_another_build_reads_them(tmp_path: Path, known: bool) -> None:
    project, running = reading(tmp_path / "project", (*REMOVES, *READER[2:]) if known else REMOVES)
    forked.run(project, "again", "graph=removing.json")
    assert there(project) == ["blow/big.bin"]
    assert forked.end(running) == 0
    assert (project.build / "slow/1-big.bin").stat().st_size == 3 << 20
    forked.run(project, "again", "graph=removing.json")
    assert there(project) == [] and project.litter() == []


def test_a_build_that_was_killed_while_it_read_them_keeps_none(tmp_path: Path) -> None:
    project, running = reading(tmp_path / "project", REMOVES)
    os.kill(running, signal.SIGKILL)
    os.waitpid(running, 0)
    forked.wait_for(lambda: not forked.children_of(project.folder))
    forked.run(project, "again", "graph=removing.json")
    assert there(project) == [] and project.litter() == []


def test_what_begins_to_read_them_waits_for_a_removal_and_builds_them_again(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", READER)
    forked.run(project, "again")
    with locks.removal(project.build, "blow") as free:
        assert free
        running = forked.start(project, "slow")
        forked.wait_for(lambda: list(project.build.glob(".work/slow.*")))
        note = project.build / ".ingot/blow.removed.json"
        note.write_text('{"step": "blow", "files": ["big.bin"]}')
        (project.build / "blow/big.bin").unlink()
    assert forked.end(running) == 0
    assert "blow: built again, as slow needs" in (project.folder / "said.txt").read_text()
    assert (project.build / "slow/1-big.bin").stat().st_size == 3 << 20


def test_a_removal_waits_for_nobody(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", READER)
    forked.run(project, "again")
    project.declare(REMOVES)
    with FileLock(project.build / ".locks/blow.lock"):
        assert "waiting" not in forked.run(project)
        assert there(project) == ["blow/big.bin"]
    forked.run(project)
    assert there(project) == []


def test_they_stay_where_what_needs_them_changed_at_the_last_moment(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", READER)
    forked.run(project, "again")
    project.declare(REMOVES)
    removal = locks.removal

    def change_first(build: Path, step: str) -> Any:
        (build / "again.json").write_text("{}")
        return removal(build, step)

    running = forked.start(project, before=lambda: setattr(locks, "removal", change_first))
    assert forked.end(running) == 0
    assert there(project) == ["blow/big.bin"]


def test_an_input_that_is_replaced_while_an_earlier_output_is_looked_for_is_read_once_more(tmp_path: Path) -> None:
    """Looking for it may take minutes: a slow store, an export that is built again."""
    graph = (
        {"name": "copy", "verb": "copy", "inputs": ["src/a"]},
        {"name": "next", "verb": "copy", "inputs": ["copy"]},
    )
    project = Project(tmp_path / "project", graph)
    restore, replaced = execute._restore, list[str]()

    def replace_first(session: Any, step: Any, *rest: Any) -> Any:
        if step.name == "next" and not replaced:
            replaced.append(step.name)
            project.write("src/a/x.txt", "another text")
            project.doit("copy")
        return restore(session, step, *rest)

    running = forked.start(project, "next", before=lambda: setattr(execute, "_restore", replace_first))
    assert forked.end(running) == 0, (project.folder / "said.txt").read_text()
    assert "another build replaced what it was reading; once more" in (project.folder / "said.txt").read_text()
    assert not project.built()

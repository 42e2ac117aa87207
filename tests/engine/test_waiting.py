"""A step that has to wait says for whom: which step of which build, in which process, since when."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.engine import holders, locks
from tests.engine.projects import Project
from tests.faults import forked


@pytest.fixture
def projects(tmp_path: Path) -> tuple[Project, Project]:
    (tmp_path / "tmp").mkdir()  # where builds of one machine meet
    made = Project(tmp_path / "one"), Project(tmp_path / "two")
    for project in made:
        (project.folder / "tmp").symlink_to(tmp_path / "tmp")
    return made


@pytest.mark.parametrize("measures", [True, False])
def test_it_is_said_which_step_of_which_build_is_waited_for(projects: tuple[Project, Project], measures: bool) -> None:
    first, second = projects
    slow = {"name": "slow", "verb": "copy", "inputs": ["src/a"], "parameters": {"delay": 3.0}}
    first.declare([{**slow, "alone": measures}])
    second.declare([{"name": "waits", "verb": "copy", "inputs": ["src/a"], "alone": not measures}])
    running = forked.start(first)
    forked.wait_for(lambda: list(first.build.glob(".work/slow.*/slow/*")))
    said = forked.run(second)
    assert forked.end(running) == 0
    [line] = [line for line in said.splitlines() if "waiting" in line]
    pattern = rf"waits: waiting for slow \({re.escape(str(first.build))}, process {running}, since \d\d:\d\d\) to end"
    assert re.fullmatch(pattern, line), line


def test_a_long_wait_is_told_again(projects: tuple[Project, Project]) -> None:
    first, second = projects
    first.declare([{"name": "slow", "verb": "copy", "inputs": ["src/a"], "parameters": {"delay": 4.0}, "alone": True}])
    second.declare([{"name": "waits", "verb": "copy", "inputs": ["src/a"]}])
    running = forked.start(first)
    forked.wait_for(lambda: list(first.build.glob(".work/slow.*/slow/*")))
    waiting = forked.start(second, before=lambda: setattr(locks, "_AGAIN", 1.0))
    assert (forked.end(running), forked.end(waiting)) == (0, 0)
    said = (second.folder / "said.txt").read_text()
    assert said.count("waits: waiting for slow (") >= 2 and "to end, for 0 min by now" in said


def test_what_a_dead_process_left_is_not_waited_for(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for number, since in ((dead.pid, 9e9), (1, 0.0)):  # it has ended; it started later than the file says
        entry = {"step": "x", "build": "b", "process": number, "since": since, "alone": True}
        (tmp_path / f"{number}.1.json").write_text(json.dumps(entry))
    (tmp_path / "half.json").write_text('{"step": "y"')
    assert holders.living(tmp_path) == []
    assert [file.name for file in tmp_path.iterdir()] == ["half.json"]


def test_what_a_dead_process_left_goes_also_where_nobody_waits(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f"{dead.pid}.1.json").write_text("{}")
    with holders.registered(tmp_path, "x", tmp_path, alone=False):
        assert [file.name.split(".")[0] for file in tmp_path.iterdir()] == [str(os.getpid())]
    assert not list(tmp_path.iterdir())

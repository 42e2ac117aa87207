"""What a run draws: nothing wider than the terminal, and no escape codes where none are wanted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.doit_plugin import terminal
from tests.engine.projects import Project

SLOW = {"name": "a-model-with-a-long-name:and-a-precision", "verb": "copy", "inputs": ["src/a"],
        "parameters": {"delay": 1.5}}  # fmt: skip
BROKEN = {"name": "broken", "verb": "fail", "inputs": ["src/a"], "parameters": {"how": "error"}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "a project", [SLOW, BROKEN])


@pytest.mark.parametrize("columns", [80, 60])
def test_no_line_of_a_run_is_wider_than_the_terminal(project: Project, columns: int) -> None:
    drawn = terminal.doit(cwd=project.folder, env=project.environment(), columns=columns)
    assert drawn.code == 1 and "1 failed" in drawn.text
    assert "\x1b[" in drawn.raw and SLOW["name"] in drawn.text
    # A path is never cut, so that it can be copied.
    lines = [line for line in drawn.text.splitlines() if "/" not in line]
    assert max(map(len, lines)) <= columns, max(lines, key=len)


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_escape_code_is_written_where_none_is_wanted(project: Project, plain: dict[str, str]) -> None:
    drawn = terminal.doit(cwd=project.folder, env=project.environment(**plain))
    assert drawn.code == 1 and "\x1b" not in drawn.raw, repr(drawn.raw)
    assert f"✓ {SLOW['name']}" in drawn.text and "✗ broken" in drawn.text


@pytest.mark.parametrize("command", ["list", "why", "check", "gate", "help"])
def test_no_command_writes_escape_codes_under_no_color(project: Project, command: str) -> None:
    drawn = terminal.doit(command, cwd=project.folder, env=project.environment(NO_COLOR="1"))
    assert "\x1b" not in drawn.raw


def test_nothing_but_text_goes_into_a_pipe(project: Project) -> None:
    assert "\x1b" not in project.doit(code=1)


def test_the_cursor_is_there_again_after_a_run(project: Project) -> None:
    raw = terminal.doit(cwd=project.folder, env=project.environment()).raw
    assert re.findall(r"\x1b\[\?25[lh]", raw)[-1] == "\x1b[?25h"

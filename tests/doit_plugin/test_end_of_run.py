"""How a run ends: what failed or was refused, what was to be shown or where it is, and how long it took."""

from __future__ import annotations

import re
from pathlib import Path

from tests.doit_plugin import terminal
from tests.engine.projects import Project
from tests.faults import forked

BROKEN = {"name": "broken", "verb": "fail", "inputs": ["src/a"]}
JUDGED = {"name": "judged", "verb": "count", "inputs": ["src/a"], "parameters": {"at_most": 3}}
REPORT = {"name": "report", "verb": "copy", "inputs": ["src/b"], "shows": "0-y.txt"}
COUNTED = re.compile(r"\d.*, in \d+\.\d s")


def test_what_failed_and_what_was_refused_stand_before_what_is_shown(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [BROKEN, JUDGED, REPORT])
    lines = forked.run(project, code=1).splitlines()
    shown = lines.index("beta")
    ends = [line for line in lines[:shown] if not line.startswith(("✓", "✗"))]
    assert [line.split(":")[0] for line in ends] == ["failed   broken", "refused  judged", ""]
    assert "refused  judged: 15 letters, at most 3" in lines
    assert COUNTED.fullmatch(lines[-1]) and "1 failed" in lines[-1]


def test_a_terminal_too_narrow_for_a_table_gets_the_table_made_for_it(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [REPORT])
    project.write("src/b/y.txt", "wide " * 20)
    project.write("src/b/y.80.txt", "narrow")
    shown = [
        terminal.doit(cwd=project.folder, env=project.environment(), columns=columns).text.splitlines()[-2]
        for columns in (80, 120)
    ]
    assert [words.split()[0] for words in shown] == ["narrow", "wide"]


def test_a_step_that_was_refused_is_not_announced_as_any_other(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [JUDGED])
    [line] = [line for line in forked.run(project).splitlines() if line.startswith("✓")]
    assert re.fullmatch(r"✓ judged +built in \d+\.\d s, refused", line)


def test_a_run_of_a_part_ends_with_where_it_is_what_was_done_and_how_long_it_took(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    first, second = (forked.run(project, "join", "copy").splitlines() for _ in range(2))
    for lines in (first, second):
        assert [line.split() for line in lines[-4:-1]] == [
            ["join", "build/join"], ["copy:a", "build/copy/a"], ["copy:b", "build/copy/b"]
        ]  # fmt: skip
        assert COUNTED.fullmatch(lines[-1]), lines[-1]
    assert first[-1].startswith("4 built, in ") and second[-1].startswith("4 up to date, in ")


def test_an_option_of_a_task_has_the_run_say_where_that_form_of_its_output_is(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [{**REPORT, "forms": {"junit": "0-y.txt"}}])
    for _ in range(2):  # built, then up to date
        assert forked.run(project, "report", "--junit").splitlines()[-2] == "junit: build/report/0-y.txt"
    assert "junit" not in forked.run(project, "report")


def test_a_part_that_failed_is_not_said_to_be_anywhere(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [BROKEN])
    assert "build/broken" not in forked.run(project, code=1).replace("logs/broken.log", "")

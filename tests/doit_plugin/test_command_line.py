"""The command line at a terminal of 80 columns, as a newcomer meets it: help that helps, mistakes explained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doit_plugin import terminal
from tests.engine.projects import CHEAP, Project

ROOT = Path(__file__).parents[2]
COMMANDS = ("accept", "check", "clean", "dumpdb", "forget", "gate", "gc", "help", "ignore", "info", "list", "reset-dep",
            "run", "strace", "tabcompletion", "why")  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Project:
    option = {"name": "xml", "verb": "copy", "inputs": ["src/b"], "forms": {"junit": "0-y.txt"}}
    return Project(tmp_path / "a project", [*CHEAP, option])


def refused(project: Project, *words: str) -> str:
    """doit exits 3 with one line of at most a few words; that line."""
    drawn = terminal.doit(*words, cwd=project.folder, env=project.environment())
    assert drawn.code == 3, drawn.text
    lines = drawn.text.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ERROR: "), drawn.text
    assert "CmdOption" not in lines[0] and len(lines[0]) < 200
    return lines[0]


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("help",), ("config=config", "--help")])
def test_help_says_what_there_is_within_80_columns(words: tuple[str, ...]) -> None:
    drawn = terminal.doit(*words, cwd=ROOT)
    assert drawn.code == 0 and len(drawn.widest) <= 80, drawn.widest
    for part in ("Foundry Local", "doit why", "config=DIR", "build=DIR", "Exit codes", "130", *COMMANDS):
        assert part in drawn.text, part
    assert "families" not in drawn.text.partition("of doit itself")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_within_80_columns(project: Project, command: str) -> None:
    drawn = terminal.doit("help", command, cwd=project.folder, env=project.environment())
    assert drawn.code == 0 and drawn.text.startswith(f"doit {command}"), drawn.text
    assert len(drawn.widest) <= 80, drawn.widest
    assert terminal.doit(command, "--help", cwd=project.folder, env=project.environment()) == drawn


def test_help_of_a_task_names_its_tasks_and_what_they_do() -> None:
    assert "?\n" in terminal.doit("help", "doctor", cwd=ROOT).text
    drawn = terminal.doit("help", "quantize", cwd=ROOT)
    assert drawn.code == 0 and len(drawn.widest) <= 80
    assert "Make the ONNX folder" in drawn.text and "doit quantize:triage-int4\n" in drawn.text


def test_the_version_is_that_of_ingot_and_of_doit() -> None:
    drawn = terminal.doit("--version", cwd=ROOT)
    assert drawn.code == 0 and drawn.text.startswith("ingot 0.") and "doit 0.37" in drawn.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("graphh=x",), "Did you mean graph? There are: build=, graph="),
        (("build=b", "nonsense=1"), "nonsense=1: there is no such variable. There are"),
        (("--build=b",), "It is a variable, and has no dashes: build=DIR"),
        (("list", "--stat", "--deep"), "option --deep not recognized"),
        (("list", "--statsu"), "Did you mean --status?"),
        (("copy:aa",), "copy:aa: there is no such command or task. Did you mean copy:a?"),
        (("lst",), "Did you mean list?"),
        (("list", "jion"), "Did you mean join?"),
        (("why", "jion"), "Did you mean join?"),
        (("check", "jion"), "Did you mean join?"),
        (("gate", "jion"), "Did you mean join?"),
        (("clean", "jion"), "Did you mean join?"),
        (("forget", "jion"), "Did you mean join?"),
        (("ignore", "jion"), "Did you mean join?"),
        (("info", "jion"), "Did you mean join?"),
        (("help", "jion"), "Did you mean join?"),
        (("info",), "expected the name of one task, found 0"),
        (("info", "join", "count"), "expected the name of one task, found 2"),
        (("nothing*",), "nothing*: there is no such task"),
        (("-n", "0"), "--process: expected a number from 1 on, or auto, found '0'"),
        (("-n", "-1"), "--process: expected a number from 1 on, or auto, found '-1'"),
        (("-n", "two"), "found 'two'"),
        (("-v", "loud"), "--verbosity: expected a number, found 'loud'"),
        (("list", "--sort=size"), "--sort: expected one of name, definition"),
        (("join", "-n", "2"), "options come before the tasks: doit -n 2 join"),
        (("list", "join", "--deps"), "options come before the tasks: doit list --deps join"),
        (("xml", "--junitt"), "--junitt: xml has no such option. It has: --junit"),
        (("list", "-f", ""), "an empty word"),
        (("list", "--file="), "expected a Python file, such as dodo.py"),
        (("list", "-f", "."), "expected a Python file, such as dodo.py"),
        (("--backend=dbm",), "option --backend not recognized"),
        (("",), "an empty word"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_is_meant(project: Project, words: tuple[str, ...], said: str) -> None:
    assert said in refused(project, *words)
    assert not project.build.exists() or not list(project.build.glob("copy*")), "nothing was run"


def test_help_ends_quietly_with_whoever_reads_it() -> None:
    command = [sys.executable, "-m", "doit", "help"]
    doit = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    assert doit.stdout and doit.stderr
    doit.stdout.close()
    assert doit.stderr.read() == b""
    doit.wait()


@pytest.mark.parametrize("words", [("list",), ("list", "--all"), ("list", "--status"), ("why",), ("why", "deploy")])
def test_what_is_listed_keeps_to_80_columns(tmp_path: Path, words: tuple[str, ...]) -> None:
    drawn = terminal.doit(*words, f"build={tmp_path}", cwd=ROOT)
    assert drawn.code == 0 and len(drawn.widest) <= 80, drawn.widest
    assert "quantize" in drawn.text


def test_a_list_that_is_piped_has_a_line_for_each_task() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "doit", "list", "--all"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert all(line.split()[1:] for line in listed), "each with what it does"


def test_a_group_without_a_task_says_what_is_missing(tmp_path: Path) -> None:
    weights = tmp_path / "config" / "weights"
    weights.mkdir(parents=True)
    models = tmp_path / "config" / "models.toml"
    models.write_text('[[model]]\nname = "m"\nsource = { path = "weights" }\nprecisions = ["int8"]\n')
    for name, needed in (("finetune", "train/<model>/tickets.jsonl"), ("lm-eval", "evaluation.lm_eval"),
                         ("domain", "evaluation.cases"), ("domain:m-int8", "evaluation.cases")):  # fmt: skip
        drawn = terminal.doit(name, f"config={models.parent}", f"build={tmp_path / 'build'}", cwd=ROOT)
        assert drawn.code == 3 and f"no model has what it needs: {needed}" in drawn.text.replace("evaluation.cases and "
            "evaluation.schema in models.toml, and ", ""), drawn.text  # fmt: skip


def test_a_precision_that_a_model_has_not_is_told_with_one_that_it_has(tmp_path: Path) -> None:
    drawn = terminal.doit("quantize:triage-int5", f"build={tmp_path}", cwd=ROOT)
    assert drawn.code == 3 and "Did you mean quantize:triage-int" in drawn.text, drawn.text


def test_everything_of_one_model_is_a_task(tmp_path: Path) -> None:
    drawn = terminal.doit("why", "model:triage", f"build={tmp_path}", cwd=ROOT)
    assert drawn.code == 0 and "verify:triage-int8" in drawn.text and "bench:triage-int8" in drawn.text


@pytest.mark.parametrize(("option", "said"), [("always=True", "✓ join"), ("reporter='console'", "-- join")])
def test_an_option_in_the_dodo_file_holds_where_all_is_up_to_date(project: Project, option: str, said: str) -> None:
    project.doit()
    dodo = project.folder / "dodo.py"
    dodo.write_text(dodo.read_text().replace("config(", f"config({option}, "))
    assert said in project.doit()

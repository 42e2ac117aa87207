"""Which code a step depends on: what its whole process tree can load, however deep, and nothing beside it."""

from __future__ import annotations

import ast
import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common import tools
from scripts.engine import digests, sources
from scripts.engine.sources import Closure, Sources
from scripts.engine.state import State

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "scripts/__init__.py": "",
    "scripts/client.py": "from scripts.deep import thing\nimport numpy.typing",
    "scripts/deep.py": "thing = 1",
    "scripts/other.py": "import torch",
    "scripts/types.py": "Thing = int",
    "scripts/chosen.py": "import peft",
    "scripts/stage/__init__.py": '"""Says what the stage is, does nothing."""',
    "scripts/stage/__main__.py": '''
"""A program."""
import typer
from scripts.stage import shared

app = typer.Typer()

@app.command()
def build():
    """One verb."""
    from scripts.stage import build as job

@app.command("measure-all", hidden=True)
def measure(
    what: str,
):
    from scripts.stage import measure

@app.command()
def worker():
    from scripts.stage import work
''',
    "scripts/stage/shared.py": "Output = str",
    "scripts/stage/build.py": """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from scripts.types import Thing
def run():
    from scripts.client import thing
    from . import helper
    return Path(__file__).with_name("table.json")
""",
    "scripts/stage/helper.py": "import json",
    "scripts/stage/measure.py": 'start("scripts.stage", "worker", package="p")',
    "scripts/stage/work.py": 'PASS = {"class": "scripts.plugin.Pass"}',
    "scripts/stage/table.json": "{}",
    "scripts/stage/unread.json": "{}",
    "scripts/plugin.py": "class Pass: ...",
    "scripts/active/__init__.py": "import os",
    "scripts/active/__main__.py": "from scripts.active import one\ndef app(): ...",
    "scripts/active/one.py": 'COMMAND = [sys.executable, "-m", "scripts.stage", verb]',
}


@pytest.fixture
def closure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Closure]:
    """What a verb is made by, as a new doit finds it; first (module, text) may be edited."""
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    state = State(tmp_path / "state.db")

    def find(stage: str = "stage", verb: str = "build", *loads: str, **edits: str) -> Closure:
        for name, text in edits.items():
            (tmp_path / name).write_text(text)
        return Sources(state, "scripts").of(stage, verb, loads)

    return find


BUILD = {
    "scripts.client", "scripts.deep", "scripts.stage.__main__", "scripts.stage.__main__:build", "scripts.stage.build",
    "scripts.stage.helper", "scripts.stage.shared", "stage/table.json",
}  # fmt: skip


def test_all_that_a_verb_imports_counts_and_no_other_verb(closure: Callable[..., Closure]) -> None:
    assert set(closure().modules) == BUILD


def test_the_programs_that_it_starts_count_and_what_they_load_by_name(closure: Callable[..., Closure]) -> None:
    assert set(closure(verb="measure-all").modules) == {
        "scripts.plugin", "scripts.stage.__main__", "scripts.stage.__main__:measure-all",
        "scripts.stage.__main__:worker", "scripts.stage.measure", "scripts.stage.shared", "scripts.stage.work",
    }  # fmt: skip


def test_of_a_program_that_is_started_with_any_verb_all_count(closure: Callable[..., Closure]) -> None:
    found = set(closure("active", "count").modules)
    assert found >= {"scripts.active", "scripts.active.__main__", "scripts.active.one", *BUILD}
    assert "scripts.stage.__main__:worker" in found


def test_what_only_the_parameters_name_counts_where_they_do(closure: Callable[..., Closure]) -> None:
    with_more = closure("stage", "build", "scripts.chosen")
    assert set(with_more.modules) == {*BUILD, "scripts.chosen"}
    assert "peft" in with_more.tools
    assert "peft" not in closure().tools


@pytest.mark.parametrize("name", ["stage/build.py", "stage/helper.py", "client.py", "deep.py", "stage/table.json"])
def test_an_edit_of_what_it_runs_is_seen(closure: Callable[..., Closure], name: str) -> None:
    before = closure()
    assert closure(**{f"scripts/{name}": FILES[f"scripts/{name}"] + "\n"}) != before
    assert closure(**{f"scripts/{name}": FILES[f"scripts/{name}"]}) == before


@pytest.mark.parametrize("name", ["other.py", "types.py", "stage/measure.py", "active/one.py", "stage/unread.json"])
def test_an_edit_of_what_it_does_not_run_is_not(closure: Callable[..., Closure], name: str) -> None:
    before = closure()
    assert closure(**{f"scripts/{name}": "changed = True"}) == before


def test_a_program_is_read_verb_by_verb(closure: Callable[..., Closure]) -> None:
    before, program = closure(), FILES["scripts/stage/__main__.py"]
    assert closure(**{"scripts/stage/__main__.py": program.replace("what: str", "what: int")}) == before
    assert closure(**{"scripts/stage/__main__.py": program.replace('"""One', '"""The one')}) != before
    assert closure(**{"scripts/stage/__main__.py": program.replace("Typer()", "Typer(help='')")}) != before


def test_code_that_does_not_parse_still_has_a_digest(closure: Callable[..., Closure]) -> None:
    before = closure()
    assert closure(**{"scripts/deep.py": "def ("}) != before


def test_tools_are_what_the_code_imports_and_python(closure: Callable[..., Closure]) -> None:
    assert set(closure().tools) == {"numpy", "python"}


def test_where_ctime_tells_nothing_code_is_read_each_time(
    closure: Callable[..., Closure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "CTIME_TELLS", False)
    before, file = closure(), tmp_path / "scripts/deep.py"
    status = file.stat()
    file.write_text("thing = 2")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert closure() != before


def test_versions_are_those_of_the_metadata() -> None:
    for name in ("doit", "olive-ai", "onnxruntime_genai", "typing-extensions"):
        assert tools.installed(name) == importlib.metadata.version(name)
    assert tools.installed("no-such-thing") == "absent"


def test_no_module_is_named_by_a_text_that_is_put_together() -> None:
    """`f"scripts.{stage}"` would be a module that no key holds. What a recipe chooses is the one exception."""
    found, chosen = [], ROOT / "scripts/definitions/passes.py"
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        if path.relative_to(ROOT / "scripts").parts[0] in ("engine", "doit_plugin"):
            continue  # they start the stages, and are in no process of theirs
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.JoinedStr) and node.values):
                continue
            first = node.values[0]
            if isinstance(first, ast.Constant) and str(first.value).startswith("scripts.") and path != chosen:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found

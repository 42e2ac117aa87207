"""Which code an artifact depends on: what its verb runs, however deep it is imported, and nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.engine import digests, sources
from scripts.engine.state import State

FILES = {
    "scripts/__init__.py": "",
    "scripts/door.py": "from scripts.deep import thing",
    "scripts/deep.py": "thing = 1",
    "scripts/other.py": "",
    "scripts/stage/__init__.py": '"""Says what the stage is, does nothing."""',
    "scripts/stage/__main__.py": "from scripts.stage import build, measure",
    "scripts/stage/build.py": "def run():\n    from scripts.door import thing\n    from . import helper",
    "scripts/stage/helper.py": "import json",
    "scripts/stage/measure.py": "",
    "scripts/stage/table.json": "{}",
    "scripts/active/__init__.py": "import os",
    "scripts/active/__main__.py": "",
    "scripts/active/one.py": "",
    "scripts/active/two.py": "from scripts.active import one",
}


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """The sources of a verb, as a new doit sees them; first (module, text) may be edited."""
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    state = State(tmp_path / "state.db")

    def look(stage: str = "stage", verb: str = "build", **edits: str) -> dict[str, str]:
        for name, text in edits.items():
            (tmp_path / name).write_text(text)
        return sources.Sources(state, "scripts").of(stage, verb)

    return look


def test_all_that_a_verb_imports_counts_and_no_other_verb(digest: Callable[..., dict[str, str]]) -> None:
    assert set(digest()) == {
        "scripts.stage", "scripts.stage.__main__", "scripts.stage.build", "scripts.stage.helper", "scripts.door",
        "scripts.deep", "stage/table.json",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["stage/build.py", "stage/helper.py", "door.py", "deep.py", "stage/table.json"])
def test_an_edit_of_what_it_runs_is_seen(digest: Callable[..., dict[str, str]], name: str) -> None:
    before = digest()
    assert digest(**{f"scripts/{name}": FILES[f"scripts/{name}"] + "\n"}) != before
    assert digest(**{f"scripts/{name}": FILES[f"scripts/{name}"]}) == before


@pytest.mark.parametrize("name", ["other.py", "stage/measure.py", "active/one.py"])
def test_an_edit_of_what_it_does_not_run_is_not(digest: Callable[..., dict[str, str]], name: str) -> None:
    before = digest()
    assert digest(**{f"scripts/{name}": "changed = True"}) == before


def test_a_verb_without_a_module_of_its_own_is_the_whole_stage(digest: Callable[..., dict[str, str]]) -> None:
    assert set(digest("active", "count")) == {
        "scripts.active", "scripts.active.__main__", "scripts.active.one", "scripts.active.two",
    }  # fmt: skip


def test_code_that_does_not_parse_still_has_a_digest(digest: Callable[..., dict[str, str]]) -> None:
    before = digest()
    assert digest(**{"scripts/deep.py": "def ("}) != before


def test_where_ctime_tells_nothing_code_is_read_each_time(
    digest: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "CTIME_TELLS", False)
    before, file = digest(), tmp_path / "scripts/deep.py"
    status = file.stat()
    file.write_text("thing = 2")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest() != before


def test_versions_are_those_of_the_metadata() -> None:
    import importlib.metadata

    for name in ("doit", "olive-ai", "onnxruntime_genai", "typing-extensions"):
        assert sources.tool_version(name) == importlib.metadata.version(name)
    assert sources.tool_version("no-such-thing") == "absent"

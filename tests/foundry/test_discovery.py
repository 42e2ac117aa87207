"""The discovery rules, replayed over a cache of every kind of folder, and held against the runtimes that have them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.foundry import cache as caches
from scripts.foundry import condition, discovery, versions
from scripts.foundry.deploy import deploy
from tests.served import MODEL_ID

SCANNER = "foundry-local-sdk==2.0.1"  # the last that scans; the preview of the `foundry` command runs on it
LIST = """
import json, sys
from foundry_local_sdk import Configuration, FoundryLocalManager
FoundryLocalManager.initialize(Configuration(app_name="scan", app_data_dir=sys.argv[1], model_cache_dir=sys.argv[2]))
print("FOUND", json.dumps(sorted(model.id for model in FoundryLocalManager.instance.catalog.get_cached_models())))
"""


def folder(path: Path, marker: object = None, *, settings: bool = True, partial: bool = False) -> Path:
    """A folder as somebody might leave it; `marker`: what inference_model.json holds, as JSON or as text."""
    path.mkdir(parents=True)
    if settings:
        (path / caches.SETTINGS).write_text('{"model": {"type": "llama"}, "search": {}}')
    if marker is not None:
        (path / caches.MARKER).write_text(marker if isinstance(marker, str) else json.dumps(marker))
    if partial:
        (path / "download.tmp").write_text("")
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A cache of somebody's, with whatever can be wrong in it."""
    cache = tmp_path / "a cache"
    folder(cache / "a" / "whole", {"Name": "whole-generic-cpu:1"})
    folder(cache / "a" / "whole" / "inside", {"Name": "inside:1"})
    folder(cache / "b" / "deep" / "down", {"Name": "unversioned"})
    folder(cache / "c" / "partial", {"Name": "partial:1"}, partial=True)
    folder(cache / "d" / "broken", "{")
    folder(cache / "e" / "lower", {"name": "lower:1"})
    folder(cache / "f" / "number", {"Name": 7})
    folder(cache / "g" / "bare", settings=True)
    folder(cache / "h" / "empty", {"Name": "empty:1"}, settings=False)
    folder(cache / "i" / "one", {"Name": "twin:1"})
    folder(cache / "i" / "two", {"Name": "twin:1"})
    (cache / "j").mkdir()
    if os.name != "nt":
        (cache / "j" / "loop").symlink_to(cache, target_is_directory=True)
    return cache


LISTED = {"whole-generic-cpu:1", "unversioned:0", "twin:1"}


def test_each_folder_is_told_the_rule_that_it_breaks(foreign: Path) -> None:
    found = {row.path.relative_to(foreign).as_posix(): row for row in discovery.replay(foreign)}
    broken = {
        "a/whole/inside": "inside another model's folder", "c/partial": "download.tmp", "d/broken": "can't be read",
        "e/lower": "`name` is not it", "f/number": "no text at Name", "g/bare": "no inference_model.json",
        "h/empty": "no genai_config.json",
    }  # fmt: skip
    assert {name: row.broken for name, row in found.items() if row.broken}.keys() == broken.keys()
    for name, why in broken.items():
        assert why in found[name].broken
    assert {row.name for row in found.values() if row.name} == LISTED
    assert "only one of them" in found["i/one"].note
    assert "not registered" in discovery.told(found["a/whole"])[1]


def test_what_was_deployed_passes_every_rule_until_it_is_taken_back(package: Path, newer: Path, foreign: Path) -> None:
    deploy(package, MODEL_ID, foreign)
    (row,) = [row for row in discovery.replay(foreign) if row.ids]
    assert discovery.told(row) == (True, f"a runtime that scans lists it as {MODEL_ID}; registered as {MODEL_ID}")
    deploy(newer, MODEL_ID, foreign)
    versions.rollback(foreign, MODEL_ID.rpartition(":")[0], to=1)
    told = [found for _, _, found, _ in condition.folders(str(foreign)) if found.startswith("ingot/")]
    assert len(told) == 2
    assert "it was taken back (doit rollback)" in told[1]


def test_a_registration_whose_folder_is_gone_is_told(package: Path, tmp_path: Path) -> None:
    made = deploy(package, MODEL_ID, tmp_path / "cache")
    assert made.path
    Path(made.path).rename(tmp_path / "elsewhere")
    (row,) = discovery.replay(tmp_path / "cache")
    assert row.ids == (MODEL_ID,)
    assert "gone" in row.broken


@pytest.mark.long
def test_the_runtime_that_scans_lists_what_was_dropped_in_and_what_the_rules_say(
    package: Path, foreign: Path, tmp_path: Path
) -> None:
    """foundry-local-sdk 2.0.1, installed for it alone: no registration is read there."""
    deploy(package, MODEL_ID, foreign)
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", SCANNER], check=True, timeout=1800)
    home = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run(
        [python, "-c", LIST, tmp_path / "app", foreign], env=home, capture_output=True, text=True, timeout=600
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")] or [done.stderr]
    assert set(json.loads(line.removeprefix("FOUND "))) == LISTED | {MODEL_ID}


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(("says", "status", "found"), [
    ("💾 tiny-fp32   tiny-fp32-generic-cpu:1", "ok", "lists all 1 of Ingot's models"),
    ("💾 phi-3.5-mini   Phi-3.5-mini-instruct-generic-cpu", "warn", f"does not list {MODEL_ID}"),
])  # fmt: skip
def test_the_foundry_command_is_asked_for_its_cache_and_its_list(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, status: str, found: str
) -> None:
    """A stand-in, no `foundry` command: it prints what the command's documentation shows of `cache location | ls`."""
    cache = tmp_path / "cache"
    deploy(package, MODEL_ID, cache)
    command = tmp_path / "bin" / "foundry"
    command.parent.mkdir()
    command.write_text(
        "#!/bin/sh\n"
        f'[ "$2" = location ] && echo "💾 Cache directory path: {cache}" && exit\n'
        f'echo "Models cached on device:"; echo "   Alias   Model ID"; echo "{says}"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    seen = condition.command(str(cache))
    assert (seen[0], found in seen[2]) == (status, True), seen
    other = condition.command(str(tmp_path / "other"))
    assert f"its cache is {cache}" in other[2]

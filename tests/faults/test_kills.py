"""A build that is killed, at any moment, by any signal: what is published is whole, what was finished is kept, nothing
is left running or lying about, and the next build ends where an undisturbed one does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from scripts.common import folders
from tests.engine.projects import Project, ran
from tests.faults import forked

#: An artifact that is replaced, one that shares its inodes, and a result.
SMALL = (
    {"name": "copy", "verb": "copy", "inputs": ["src/a"]},
    {"name": "relink", "verb": "relink", "inputs": ["copy"]},
    {"name": "count", "verb": "count", "inputs": ["relink"]},
)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished build of the earlier text."""
    project = Project(tmp_path_factory.mktemp("before") / "project", SMALL)
    forked.run(project)
    return project


@pytest.fixture(scope="module")
def after(before: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed build of the later text makes, and how many file operations that takes."""
    project = copied(before, tmp_path_factory.mktemp("after") / "project")
    forked.run(project)
    return project.contents()


def copied(made: Project, folder: Path) -> Project:
    """The finished build, in another folder, with a text that is newer than it."""
    shutil.copytree(made.folder, folder, symlinks=True)
    project = Project.__new__(Project)
    project.folder, project.build = folder, folder / "build"
    project.write("src/a/x.txt", "another text, much longer")
    project.write("said.txt", "")  # a fork that dies before its first line must not be taken for an earlier one
    return project


def assert_whole(project: Project) -> None:
    """Whatever is under a final name is what its manifest says."""
    for manifest in project.build.glob("*/manifest.json"):
        files = json.loads(manifest.read_text())["files"]
        there = {path.relative_to(manifest.parent).as_posix(): path.stat().st_size
                 for path in manifest.parent.rglob("*") if path.is_file()}  # fmt: skip
        listed = {name: file["size"] for name, file in files.items()}
        assert {name: there[name] for name in there if name not in ("manifest.json", "provenance.json")} == listed
        assert (manifest.parent / "provenance.json").exists()
    for folder in ("copy", "relink"):
        assert (project.build / folder / "manifest.json").exists(), "the old or the new one, but one"
    json.loads((project.build / "count.json").read_text())
    said = forked.run(project, "check")  # of a result too, whose provenance is a file of its own
    assert "damaged" not in said, said


def assert_ends_well(project: Project, after: dict[str, str]) -> None:
    """The next doit ends where an undisturbed one does; then nothing is to be done and nothing is left."""
    forked.run(project)
    assert project.contents() == after
    assert ran(forked.run(project)) == set()
    assert project.litter() == []
    assert forked.children_of(project.folder) == []


def count(limit: int | None, seen: Path, *, exchange: bool) -> None:
    """In a fork: die before file operation `limit`; on a system that can't exchange two names, or on one that can."""
    if not exchange:
        folders.exchange = lambda *_: False
    forked.count_to(limit, seen)


def operations(before: Project, folder: Path, exchange: bool) -> int:
    project = copied(before, folder)
    seen = project.folder / "operations"
    assert forked.end(forked.start(project, before=lambda: count(None, seen, exchange=exchange))) == 0
    return seen.stat().st_size


def die_at(before: Project, folder: Path, after: dict[str, str], number: int, exchange: bool) -> None:
    project = copied(before, folder / f"{number}")
    seen = project.folder / "operations"
    code = forked.end(forked.start(project, before=lambda: count(number, seen, exchange=exchange)))
    assert code in (-signal.SIGKILL, 0), (project.folder / "said.txt").read_text()
    if exchange:  # else an old output may be away, until the next build puts it back
        assert_whole(project)
    assert_ends_well(project, after)
    shutil.rmtree(project.folder)


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_between_file_operations(before: Project, after: dict[str, str], tmp_path: Path, exchange: bool) -> None:
    total = operations(before, tmp_path / "counted", exchange)
    assert total > 100
    for number in random.Random(1).sample(range(1, total + 1), 8):
        die_at(before, tmp_path, after, number, exchange)


@pytest.mark.long
@pytest.mark.parametrize("exchange", [True, False])
def test_killed_between_every_two_file_operations(
    before: Project, after: dict[str, str], tmp_path: Path, exchange: bool
) -> None:
    for number in range(1, operations(before, tmp_path / "counted", exchange) + 1):
        die_at(before, tmp_path, after, number, exchange)


def storm(before: Project, after: dict[str, str], folder: Path, seed: int, count: int, *words: str) -> None:
    """Kill builds at random moments, one after the other, by each of three signals, until one gets through."""
    dice = random.Random(seed)
    for number in range(count):
        project = copied(before, folder / f"{number}")
        number_of_signal = dice.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        pid = forked.start(project, *words)
        time.sleep(dice.uniform(0.02, 0.6))
        os.kill(pid, number_of_signal)
        code = forked.end(pid)
        said = (project.folder / "said.txt").read_text()
        # A signal that comes before doit is ready for it, or after the end, has its usual effect.
        assert code in (0, 130, -number_of_signal), said
        if code == 130:
            assert "stopped" in said and "✗" not in said and "Traceback" not in said, said
            assert not list(project.build.rglob("*.failed.json")), "an interruption is no failure"
        assert_whole(project)
        finished = {line.split()[1] for line in said.splitlines() if line.startswith("✓ ")}
        assert not finished & ran(forked.run(project)), "finished work is not done again"
        assert_ends_well(project, after)
        shutil.rmtree(project.folder)


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_a_storm_of_signals(before: Project, after: dict[str, str], tmp_path: Path, words: tuple[str, ...]) -> None:
    storm(before, after, tmp_path, 11, 6, *words)


@pytest.mark.long
@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_a_long_storm_of_signals(
    before: Project, after: dict[str, str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    storm(before, after, tmp_path, 12, 60, *words)

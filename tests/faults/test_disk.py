"""Disks that are full, folders that can't be written, state that is lost or noise: one clear line, and nothing lost."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.projects import CHEAP, Project, ran
from tests.faults import forked
from tests.needs import in_a_namespace

EVERYTHING = {str(row["name"]) for row in CHEAP}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("made") / "project")
    forked.run(project)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    shutil.copytree(made.folder, tmp_path / "project", symlinks=True)
    found = Project.__new__(Project)
    found.folder, found.build = tmp_path / "project", tmp_path / "project" / "build"
    forked.run(found)
    return found


def state_files(project: Project) -> list[Path]:
    return sorted(project.build.glob("state.db*"))


@pytest.mark.parametrize("harm", ["lost", "emptied", "truncated", "noise", "noise inside", "text"])
def test_harmed_state_costs_no_rebuild(project: Project, harm: str) -> None:
    dice, state = random.Random(3), project.build / "state.db"
    for _ in range(5 if harm == "noise inside" else 1):
        for file in state_files(project):
            data = bytearray(file.read_bytes())
            if harm == "noise inside":
                for _ in range(30):
                    data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
                file.write_bytes(data)
            elif harm == "truncated":
                os.truncate(file, len(data) * 2 // 3)
            else:
                file.unlink()
        if harm in ("emptied", "noise", "text"):
            state.write_bytes({"emptied": b"", "noise": dice.randbytes(9000), "text": b"no database\n" * 300}[harm])
        for words in (("list",), ("list", "--status"), ("why",), ("check",)):
            assert "R join" not in forked.run(project, *words)
        assert ran(forked.run(project)) == set()
        assert ran(forked.run(project)) == set()


def test_state_that_cannot_be_written_is_done_without(project: Project) -> None:
    for file in state_files(project):
        file.unlink()
    (project.build / "state.db").mkdir()
    said = forked.run(project)
    assert ran(said) == set() and "nothing is remembered" in said
    project.write("src/b/y.txt", "gamma")
    assert ran(forked.run(project)) == {"copy:b", "join", "relink", "count"}
    assert ran(forked.run(project)) == set()


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_a_build_that_is_a_file_is_one_clear_line(project: Project, words: tuple[str, ...]) -> None:
    (project.folder / "file").write_text("")
    said = forked.run(project, "build=file", *words, code=1)
    assert "file" in said and "build=DIR" in said
    assert len([line for line in said.splitlines() if line.strip()]) <= 3


def inside(project: Project, script: str) -> str:
    """Run a shell script as root of a mount namespace of its own, in the project's folder."""
    done = in_a_namespace(script, cwd=project.folder, env=project.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout + done.stderr


DOIT = f"{shlex.quote(sys.executable)} -m doit"


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("removes", [False, True], ids=["", "removes"])
def test_a_read_only_build_can_be_up_to_date_and_else_says_so_in_one_line(project: Project, removes: bool) -> None:
    if removes:
        project.set("join", removed_after=["count"], removes="*.txt")
    (project.build / ".work/join.1.1").mkdir()  # of a build that died
    said = inside(
        project,
        f"""
        mount --bind build build; mount -o remount,ro,bind build
        {DOIT}; {DOIT} list --status; {DOIT} why; {DOIT} info join; {DOIT} check
        echo changed > src/b/y.txt; code=0; {DOIT} || code=$?; test $code = 1""",
    )
    assert "6 up to date" in said and "6 whole" in said and "up-to-date" in said
    assert "remembered" not in said, "what is in SQLite's log is lost"
    assert said.count("join: what nothing needs now stays there: ") == int(removes)
    line = next(line for line in said.splitlines() if "nothing can be built" in line)
    assert "build=DIR" in line and "can't be written" in line


@pytest.mark.parametrize("folder", [".locks", ".work"])
def test_a_build_without_its_own_folders_can_be_up_to_date_and_else_says_so_in_one_line(
    project: Project, folder: str
) -> None:
    project.set("join", removed_after=["count"], removes="*.txt")
    shutil.rmtree(project.build / folder)
    (project.build / folder).write_text("")
    for words in ((), ("list", "--status"), ("why",), ("info", "join"), ("check",)):
        forked.run(project, *words)
    project.write("src/b/y.txt", "changed")
    for words in ((), ("-n", "4")):
        [line] = forked.run(project, *words, code=1).splitlines()
        assert folder in line and "nothing can be built" in line and "build=DIR" in line


def fill(project: Project, sizes: list[int]) -> str:
    """Build in a tmpfs of each size, KiB, with what was built before in it; then with room, to the end."""
    return inside(
        project,
        f"""
        mkdir -p disk
        for size in {" ".join(map(str, sizes))}; do
            mount -t tmpfs -o size=${{size}}k tmpfs disk
            code=0; cp -a build/. disk/ 2>/dev/null || code=$?
            if [ $code = 0 ]; then
                {DOIT} build=disk > said.txt 2>&1 || code=$?
                if grep -q Traceback said.txt; then cat said.txt; exit 1; fi
                test $code = 0 -o $code = 1 || {{ cat said.txt; exit 1; }}
                echo "$size: code $code $(grep -ciE 'no space|is full' said.txt)"
                mount -t tmpfs -o remount,size=64m tmpfs disk  # both named: else an ordinary user's own uid is refused
                {DOIT} build=disk
                test -z "$(ls disk/.work)"
                for file in join/all.txt relink/all.txt copy/b/0-y.txt count.json; do cmp disk/$file right/$file; done
                {DOIT} check --deep build=disk
            fi
            umount disk
        done""",
    )


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("points", [pytest.param(4, id="some"), pytest.param(24, id="many", marks=pytest.mark.long)])
def test_a_full_disk_fails_the_step_and_loses_nothing(project: Project, points: int) -> None:
    project.set("copy:b", verb="blow", parameters={"size": 60_000})
    forked.run(project)
    used = int(subprocess.run(["du", "-sk", "build"], cwd=project.folder, capture_output=True, text=True,
                              check=True).stdout.split()[0])  # fmt: skip
    project.set("copy:b", verb="copy", parameters={})
    project.write("src/b/y.txt", "0123456789" * 10_000)
    shutil.copytree(project.build, project.folder / "right", symlinks=True)
    forked.run(project, "build=right")
    sizes = [used + 16 + 280 * point // points for point in range(points)]
    said = fill(project, sizes)
    failed = [line for line in said.splitlines() if "code 1" in line]
    assert len(failed) >= points // 3, said
    assert all(int(line.split()[-1]) for line in failed), said  # each says what it was


def test_two_and_four_builds_at_once(project: Project) -> None:
    for count in (2, 4):
        project.write("src/a/x.txt", f"a text for {count} builds")
        project.write("src/b/y.txt", f"another text for {count}")
        pids = [forked.start(project, "-n", "2", to=f"said{number}.txt") for number in range(count)]
        assert [forked.end(pid) for pid in pids] == [0] * count
        said = [(project.folder / f"said{number}.txt").read_text() for number in range(count)]
        built = [line.split()[1] for text in said for line in text.splitlines() if "built in" in line]
        assert sorted(built) == sorted(set(built)) == sorted(EVERYTHING), said
        assert ran(forked.run(project)) == set()
        assert project.litter() == []


def test_an_input_that_another_build_replaces_is_read_again(project: Project) -> None:
    project.declare([{"name": "one", "verb": "copy", "inputs": ["src/a"]},
                     {"name": "two", "verb": "copy", "inputs": ["one"], "parameters": {"delay": 1.0}}])  # fmt: skip
    first = forked.start(project, to="first.txt")
    forked.wait_for(lambda: list(project.build.glob(".work/two.*/two/*")))
    project.write("src/a/x.txt", "a later text")
    assert ran(forked.run(project, "one")) == {"one"}
    assert forked.end(first) == 0
    assert "replaced what it was reading" in (project.folder / "first.txt").read_text()
    assert (project.build / "two/0-0-x.txt").read_text() == "a later text"
    assert ran(forked.run(project)) == set()


def test_an_output_that_cannot_be_read_is_made_again(project: Project) -> None:
    file = project.build / "join/all.txt"
    file.unlink()
    file.symlink_to(file)
    assert ran(forked.run(project)) == {"join"}
    (project.build / "count.json").unlink()
    (project.build / "count.json").mkdir()
    (project.build / "count.json/x").write_text("")
    forked.run(project)
    assert (project.build / "count.json").is_file()

"""Earlier outputs are restored, never wrongly, never at the cost of the user's files; and can be collected."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from scripts.common import hashes
from scripts.engine import digests
from tests.engine.projects import Project, ran
from tests.faults import forked

#: Big enough to be linked with the store, and not copied.
BIG = (
    {"name": "blow", "verb": "blow", "inputs": ["src/a"], "parameters": {"size": 3 << 20}},
    {"name": "relink", "verb": "relink", "inputs": ["blow"]},
    {"name": "refer", "verb": "refer", "inputs": ["src/a"]},
    {"name": "count", "verb": "count", "inputs": ["src/a"]},
    {"name": "clock", "verb": "clock", "inputs": ["src/a"], "alone": True},
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A build of one text, then of another."""
    made = Project(tmp_path / "project", BIG)
    forked.run(made)
    made.write("src/a/x.txt", "another text")
    forked.run(made)
    return made


def test_going_back_restores_what_was_built_and_measures_again(project: Project) -> None:
    later = project.contents()
    project.write("src/a/x.txt", "alpha and omega")
    said = forked.run(project)
    assert [line.split()[1] for line in said.splitlines() if "built in" in line] == ["clock"]
    assert {line.split()[1] for line in said.splitlines() if "restored" in line[:60]} >= {"blow", "relink", "count"}
    assert ran(forked.run(project)) == set()
    project.write("src/a/x.txt", "another text")
    forked.run(project)
    same = {name: digest for name, digest in later.items() if "clock" not in name}
    assert {name: digest for name, digest in project.contents().items() if "clock" not in name} == same
    assert forked.run(project, "check", "--deep").startswith("5 whole")


def test_a_removed_output_is_restored(project: Project) -> None:
    shutil.rmtree(project.build / "blow")
    assert "blow                         restored" in forked.run(project)


def test_an_edit_in_place_of_a_linked_file_does_not_spread(project: Project) -> None:
    right = project.contents()
    file = project.build / "blow/big.bin"
    assert not file.stat().st_mode & 0o222, "shared files are read-only"
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.write(b"harm")
    assert "2 damaged" in forked.run(project, "check", code=1)
    said = forked.run(project)
    assert "blow                         built in" in said, "the stored one shared the harm: it must not be used"
    changed = {name for name, digest in project.contents().items() if right[name] != digest}
    assert changed == set()


def test_users_files_are_not_stored_nor_touched(project: Project) -> None:
    assert not list(project.build.glob("store/*/clock.json")), "a measurement is not stored"
    stored = list(project.build.glob("store/*/x.txt"))
    assert stored and all(path.is_symlink() for path in stored)
    status = (project.folder / "src/a/x.txt").stat()
    assert status.st_nlink == 1 and status.st_mode & 0o200


def test_nothing_is_hashed_again_because_ingot_linked_or_removed(project: Project) -> None:
    def no_hashing() -> None:
        def refuse(path: str, size: int | None) -> str:
            assert size is not None and size < 1 << 20, f"{path} was hashed again"
            return real(path, size)

        real = hashes.digest_file
        setattr(digests, "digest_file", refuse)  # noqa: B010  (a name that it imports, and does not offer)

    for words in ((), ("forget", "relink"), (), (), ("gc", "--keep", "0"), ()):
        assert forked.end(forked.start(project, *words, before=no_hashing)) == 0
        assert "Traceback" not in (project.folder / "said.txt").read_text()


def test_gc_keeps_what_is_in_use(project: Project) -> None:
    right = project.contents()
    before = len(list((project.build / "store").iterdir()))
    said = forked.run(project, "gc", "--keep", "0")
    left = {path.name for path in (project.build / "store").iterdir()}
    in_use = {json.loads(path.read_text())["key"] for path in project.build.rglob("*provenance.json")
              if "store" not in path.parts}  # fmt: skip
    assert left and left <= in_use and len(left) < before and "removed" in said
    assert project.contents() == right and project.litter() == []
    assert ran(forked.run(project)) == set()


def test_gc_refuses_a_size_that_is_none(project: Project) -> None:
    assert "500MB" in forked.run(project, "gc", "--keep", "much", code=3)


def test_a_harmed_object_is_not_restored(project: Project) -> None:
    for stored in project.build.glob("store/*/count.json"):
        stored.chmod(0o644)
        stored.write_text('{"verdict": "passed", "size": 1}')
    project.write("src/a/x.txt", "alpha and omega")
    assert "count                        built in" in forked.run(project)


def test_the_same_inputs_give_the_same_bytes_elsewhere(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "a folder elsewhere", BIG)
    other.write("src/a/x.txt", "another text")
    os.utime(other.folder / "src/a/x.txt", (1, 1))
    forked.run(other, "-n", "3")

    def content(made: Project) -> dict[str, str]:
        return {
            name: digest for name, digest in made.contents().items() if not name.startswith(("clock", ".ingot/clock"))
        }

    assert content(other) == content(project)

"""Who puts things into a shared store, or fetches them, is killed between file operations: the store holds what is
whole, and the next build ends where an undisturbed one does.
"""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from scripts.common.hashes import digest_file
from tests.engine.projects import Project, ran
from tests.faults import forked
from tests.faults.test_kills import SMALL

pytest.importorskip("fsspec", reason="fsspec is not installed: pip install -e '.[team]'")


def clone(folder: Path, place: Path, *, write: bool) -> Project:
    place.mkdir(parents=True, exist_ok=True)
    project = Project(folder, SMALL)
    project.share(place.as_uri(), write=write)
    return project


def contents(project: Project) -> dict[str, str]:
    return {name: digest for name, digest in project.contents().items() if not name.startswith(".fetched")}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A store that is complete, and what was built."""
    folder = tmp_path_factory.mktemp("filled")
    project = clone(folder / "project", folder / "mnt", write=True)
    forked.run(project)
    return folder / "mnt", contents(project)


def assert_store_is_whole(place: Path) -> None:
    """Every artifact that is there can be had: its blobs are there, with the content that they are named by."""
    for listed in (place / "v1/artifacts").glob("*/*.json"):
        for file in json.loads(listed.read_text())["body"]["files"].values():
            if file["size"] and not file.get("own"):
                blob = place / "v1/blobs" / file["blake3"][:2] / file["blake3"]
                assert digest_file(blob) == file["blake3"]


def die_at(number: int | None, folder: Path, filled: tuple[Path, dict[str, str]], *, write: bool) -> int:
    """A build that is killed before file operation `number`, and one after that; how many operations the first had."""
    store, right = filled
    place = folder / "mnt" if write else store
    project = clone(folder / "project", place, write=write)
    seen = project.folder / "operations"
    code = forked.end(forked.start(project, before=lambda: forked.count_to(number, seen)))
    assert code in (-signal.SIGKILL, 0), (project.folder / "said.txt").read_text()
    assert_store_is_whole(place)
    said = forked.run(project)
    assert "shared store" not in said.replace("from the shared store", ""), said
    assert contents(project) == right and project.litter() == []
    assert ran(forked.run(project)) == set() and forked.children_of(project.folder) == []
    if write:
        other = clone(folder / "other", place, write=False)
        assert "fetched in" in forked.run(other) and contents(other) == right
        assert_store_is_whole(place)
    return seen.stat().st_size


@pytest.mark.parametrize("write", [True, False], ids=["who writes", "who reads"])
def test_killed_between_file_operations(write: bool, filled: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    total = die_at(None, tmp_path / "counted", filled, write=write)
    assert total > 100
    for number in random.Random(3).sample(range(1, total + 1), 6):
        die_at(number, tmp_path / f"{number}", filled, write=write)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("write", [True, False], ids=["who writes", "who reads"])
def test_killed_between_any_two_file_operations(
    write: bool, filled: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    total = die_at(None, tmp_path / "counted", filled, write=write)
    for number in range(1, total + 1):
        die_at(number, tmp_path / f"{number}", filled, write=write)

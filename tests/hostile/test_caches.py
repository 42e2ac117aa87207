"""Strangers' things in a Foundry cache: told or passed over, in bounded time, not followed, and none is removed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common.errors import IngotError
from scripts.common.manifest import MANIFEST
from scripts.foundry import cache, deploy, marks, planning, standing
from scripts.serving import listing
from scripts.serving.place import Place
from tests.hostile.test_places import THINGS, put

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")

ID = "m-int4-generic-cpu:1"
SECRET = "root-of-all-secrets"
DEEP = "d" * 20


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """What is there, links as links: kind, size and, of small files, content; Ingot's own locks left out."""
    found = {}
    for place, folders, files in os.walk(folder):
        for path in (Path(place) / name for name in (*folders, *files) if not name.endswith(".lock")):
            status = path.lstat()
            small = path.is_file() and not path.is_symlink() and status.st_size < 1 << 20
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
            found[str(path.relative_to(folder))] = status.st_mode, status.st_size if small else 0, digest
    return found


def use(root: Path) -> None:
    """Everything that reads a cache, and what takes models down from one."""
    asked = {"names": {ID.rpartition(":")[0]: ["m", "int4"]}}
    place = Place.of({"cache": str(root), "config": str(root.parent / "config"), "build": str(root.parent / "build"),
                      "asked": asked})  # fmt: skip
    rows = listing.rows(place)
    told = listing.as_text(place, rows)
    assert SECRET not in told + json.dumps(rows)
    standing.judge(root, place.asked)
    standing.reconcile(root, place.asked, "remove", "doit undeploy")
    standing.take_down_orphans(root, place.asked)
    planning.plan(root, "n-int4-generic-cpu:1", {"a": {"size": 1, "blake3": "0"}}, lambda _: {})
    place_of = cache.home_of(root, ID)
    if place_of.is_symlink():
        with pytest.raises(IngotError, match="was not put there by Ingot"):
            deploy.undeploy(ID, root)
    else:
        assert deploy.undeploy(ID, root) == "nothing there"


def registered(root: Path, folder: Path) -> None:
    models = [{"model_info": {"id": "theirs:1"}, "model_path": str(folder)}]
    (root / cache.INDEX).write_text(json.dumps({"models": models}), encoding="utf-8")


@pytest.mark.parametrize("name", [cache.MARKER, cache.SETTINGS, MANIFEST])
@pytest.mark.parametrize("thing", [*THINGS, "link"])
def test_a_file_of_a_strangers_model(tmp_path: Path, name: str, thing: str) -> None:
    """Beside two models that nobody but a scanning runtime would list, one of which is registered."""
    root, outside = tmp_path / "models", tmp_path / "outside"
    outside.write_text(json.dumps({"Name": SECRET, "files": {}, "ingot": {"id": ID}}), encoding="utf-8")
    for parent in (root, root / marks.FOLDER):
        folder = parent / "theirs"
        folder.mkdir(parents=True)
        for sound in (cache.MARKER, cache.SETTINGS):
            (folder / sound).write_text('{"Name": "theirs:1", "model": {}}', encoding="utf-8")
        (folder / name).unlink(missing_ok=True)
        if thing == "link":
            (folder / name).symlink_to(outside)
        else:
            put(folder / name, thing)
    registered(root, root / "theirs")
    before = snapshot(tmp_path)
    use(root)
    assert snapshot(tmp_path) == before


def many(root: Path) -> None:
    (root / marks.FOLDER).mkdir()
    for number in range(10_000):
        (root / marks.FOLDER / f"x{number}").mkdir()


def deep(root: Path) -> None:
    """Deeper than paths go."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(300):
        os.mkdir(DEEP, dir_fd=here)
        below = os.open(DEEP, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def links(root: Path) -> None:
    """Out of the cache, to itself, and to nothing, under names that Ingot gives."""
    away = root.parent / "away"
    away.mkdir()
    (away / cache.MARKER).write_text('{"Name": "theirs:1"}', encoding="utf-8")
    (away / MANIFEST).write_text(json.dumps({"files": {}, "ingot": {"id": ID}}), encoding="utf-8")
    (root / marks.FOLDER).mkdir()
    for name, target in (("m-int4-generic-cpu", away), ("loop", root), ("self", "self"), ("none", "nothing")):
        (root / marks.FOLDER / name).symlink_to(target)


@pytest.mark.parametrize("fill", [many, deep, links])
def test_folders_of_strangers(tmp_path: Path, fill: Callable[[Path], None]) -> None:
    root = tmp_path / "models"
    root.mkdir()
    fill(root)
    before = snapshot(tmp_path) if fill is not deep else {}
    registered(root, root)
    use(root)
    (root / cache.INDEX).unlink()
    assert not before or snapshot(tmp_path) == before
    assert fill is not deep or (root / DEEP).is_dir()

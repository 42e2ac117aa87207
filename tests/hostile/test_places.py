"""Anything in place of a file that a build reads: what never ends, is huge or deep, or is another thing altogether."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common.manifest import MANIFEST, PROVENANCE
from scripts.engine import state
from scripts.foundry import cache, marks
from tests.hostile.limited import Hostile, Stages, said

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 50 << 30)


#: What may stand under the name of a file.
THINGS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "zeros without end": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "folder": Path.mkdir,
    "sparse": sparse,
    "deep": lambda path: path.write_bytes(b"[" * 1_000_000),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 64),
    "another type": lambda path: path.write_bytes(b'[{"files": 7, "key": [], "verdict": {}, "ingredients": null}]'),
    "empty": Path.touch,
}


#: Those that stand for the others where a test takes seconds.
FEW = ("pipe", "loop", "sparse", "deep", "another type")


def put(path: Path, thing: str) -> None:
    """Put one of `THINGS` where a file was."""
    path.unlink(missing_ok=True)
    THINGS[thing](path)


@pytest.mark.parametrize("thing", [thing for thing in THINGS if thing != "another type"])
@pytest.mark.parametrize("name", ["models.toml", "recipes.toml"])
def test_a_configuration(hostile: Hostile, name: str, thing: str) -> None:
    if (name, thing) == ("recipes.toml", "empty"):
        return  # it need not say anything
    put(hostile.config / name, thing)
    ended = hostile.run("list")
    assert ended.code == 3, ended
    said(ended, name)


@pytest.mark.parametrize(("name", "thing"), [*((MANIFEST, thing) for thing in FEW), (PROVENANCE, "pipe"),
                                             (PROVENANCE, "another type")])  # fmt: skip
def test_what_tells_of_an_output(hostile: Hostile, name: str, thing: str) -> None:
    put(hostile.build / "good" / "checkpoint" / name, thing)
    said(hostile.run("why", "checkpoint"), "checkpoint:good")
    ended = hostile.run("checkpoint")
    assert ended.code == 0, ended.out
    said(ended, "checkpoint:good")
    assert json.loads((hostile.build / "good" / "checkpoint" / name).read_bytes())


def other_tables(path: Path) -> None:
    """A database that is sound, and asks for ever where facts are looked up."""
    with sqlite3.connect(path) as db:
        db.execute("create view facts as with recursive n(x) as (select 1 union all select x + 1 from n) "
                   "select 'receipt' as kind, x as name, x as value, 0 as sum from n")  # fmt: skip
        db.execute(f"pragma user_version = {state._VERSION}")


def other_facts(path: Path) -> None:
    """A database whose facts are of another form, however well they are summed."""
    with sqlite3.connect(path) as db:
        db.execute(state._TABLE)
        db.execute(f"pragma user_version = {state._VERSION}")
        for kind in ("receipt", "cost", "code", "task", "digest"):
            for name in ("checkpoint:good", "good", "1 1"):
                for value in ("[" * 100_000, "7", "[]", "{}", '["a", "b", [["c"]], []]', '{"a": [1]}'):
                    db.execute("insert or replace into facts values (?, ?, ?, ?)",
                               (kind, name, value, state._sum(name, value)))  # fmt: skip


def another_version(path: Path) -> None:
    """A database of a later Ingot's."""
    with sqlite3.connect(path) as db:
        db.execute("create table facts (all_is_new int)")
        db.execute(f"pragma user_version = {state._VERSION + 1}")


STATES = {
    **{thing: THINGS[thing] for thing in ("pipe", "zeros without end", "folder", "sparse", "noise")},
    "other tables": other_tables,
    "other facts": other_facts,
    "another version": another_version,
}


@pytest.mark.parametrize("thing", STATES)
def test_state_is_found_out_again_from_the_manifests(hostile: Hostile, thing: str) -> None:
    """Promise 5: nothing that was built is built again."""
    before = hostile.built()
    for end in ("", "-wal", "-shm"):
        (hostile.build / f"state.db{end}").unlink(missing_ok=True)
    STATES[thing](hostile.build / "state.db")
    ended = hostile.run("checkpoint")
    assert ended.code == 0, ended.out
    said(ended, "1 up to date")
    assert hostile.built() == before


@pytest.mark.parametrize("thing", FEW)
def test_an_object_of_the_store_that_is_none(hostile: Hostile, thing: str) -> None:
    """It is not restored, and what is built takes its place."""
    [stored] = (hostile.build / "store").iterdir()
    stored.chmod(0o755)
    put(stored / MANIFEST, thing)
    for path in (hostile.build / "good").rglob("manifest.json"):
        path.unlink()
    for words in (["gc", "--keep", "10GB"], ["checkpoint"]):
        ended = hostile.run(*words)
        assert ended.code == 0, ended.out
        said(ended, "good" if words == ["checkpoint"] else "")


@pytest.mark.parametrize("thing", [thing for thing in THINGS if thing != "folder"])
def test_the_index_of_a_cache(stages: Stages, tmp_path: Path, thing: str) -> None:
    put(tmp_path / cache.INDEX, thing)
    folder = tmp_path / marks.FOLDER / "m-int4-generic-cpu"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps({"files": {}, "ingot": {"id": "m-int4-generic-cpu:1"}}), "utf-8")
    doctor = stages.program("scripts.doctor", "--cache", str(tmp_path))
    said(doctor, "Foundry cache", cache.INDEX)
    assert doctor.code == 1
    stages.refused("foundry", "undeploy", cache.INDEX, model_id="m-int4-generic-cpu:1", cache=tmp_path)
    assert folder.is_dir()


@pytest.mark.parametrize("thing", THINGS)
def test_an_accepted_report(stages: Stages, tmp_path: Path, thing: str) -> None:
    put(tmp_path / "accepted.json", thing)
    build = tmp_path / "build"
    build.mkdir()
    stages.refused(
        "report", "render", "accepted.json", build=build, models="[]", accepted=tmp_path / "accepted.json",
        output=tmp_path / "report",
    )  # fmt: skip


def test_an_empty_word_for_a_file(hostile: Hostile) -> None:
    ended = hostile.run("list", "-f", "")
    assert ended.code == 3
    said(ended, "empty word")

"""`doit rollback` and `doit undeploy`: which version a client gets, without a build."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from scripts.foundry import cache as caches
from scripts.foundry import chosen
from scripts.foundry.deploy import deploy
from tests.served import MODEL_ID
from tests.serving.conftest import cache_of, make
from tests.system.project import Project

NAME = MODEL_ID.rpartition(":")[0]
FIRST, SECOND = f"{NAME}:1", f"{NAME}:2"


@pytest.fixture
def project(tmp_path: Path, package: Path, newer: Path) -> Project:
    """The model "tiny" deployed in two versions."""
    made = make(tmp_path / "a project", package)
    assert deploy(newer, MODEL_ID, cache_of(made), made.config).id == SECOND
    return made


def registered(project: Project) -> list[str]:
    return sorted(caches.registrations(cache_of(project)))


def test_back_to_the_version_before_and_forward_by_number(project: Project) -> None:
    ran = project.doit("rollback", "tiny")
    assert ran.code == 0, ran.out
    assert ran.out.startswith(f"{FIRST} is served; {SECOND} taken back (doit ")
    assert f"rollback {NAME} to=2 brings it back)" in ran.out
    assert registered(project) == [FIRST]
    rows = {row["id"]: row for row in json.loads(project.doit("models", "--json").out)}
    assert {model_id: row["listed"] for model_id, row in rows.items()} == {FIRST: True, SECOND: False}
    assert "2 (taken back)" in project.doit("models").out
    ran = project.doit("rollback", "tiny-fp32", "to=2")
    assert (ran.code, ran.out.strip()) == (0, f"{SECOND} is served")
    assert registered(project) == [FIRST, SECOND]
    assert chosen.of(project.build, cache_of(project))[NAME].id == SECOND  # which `doit check --signed` goes by


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tinny"], 3, "Did you mean tiny"),
        (["tiny-fp32", "to=9"], 1, "there is no such version any more. There are: 2, 1"),
        (["tiny", "to=0"], 3, "expected a whole number from 1"),
        ([], 3, "names 0 models"),
        (["tiny", "port=1"], 3, "there is no such variable"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(project: Project, words: list[str], code: int, said: str) -> None:
    ran = project.doit("rollback", *words)
    assert (ran.code, said in ran.out) == (code, True), ran.out
    assert registered(project) == [FIRST, SECOND]


def test_there_is_a_way_back_only_while_there_is_an_earlier_version(project: Project) -> None:
    assert project.doit("undeploy", FIRST).code == 0
    ran = project.doit("rollback", "tiny")
    assert ran.code == 1
    assert "there is no version before the one that is listed. There are: 2" in ran.out
    assert registered(project) == [SECOND]


def test_undeploying_a_model_takes_every_version_down(project: Project) -> None:
    ran = project.doit("undeploy", "tiny")
    assert ran.code == 0, ran.out
    assert sorted(line.partition(" ")[0] for line in ran.out.splitlines()) == [FIRST, SECOND]
    assert registered(project) == []
    assert project.doit("chat", "tiny", "-m", "hello").code == 3


def test_what_is_only_registered_any_more_can_be_undeployed(project: Project) -> None:
    shutil.rmtree(caches.home_of(cache_of(project), FIRST))
    ran = project.doit("undeploy", FIRST)
    assert ran.code == 0 and f"{FIRST} taken down" in ran.out, ran.out
    assert registered(project) == [SECOND]

"""What is in the Foundry cache is what table, report, `check` and `why` say, through `doit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.foundry import cache as caches
from tests.system.conftest import settings
from tests.system.project import Project

INT4, INT8 = "facts-int4-generic-cpu", "facts-int8-generic-cpu"
REMOVE = '[foundry]\non_refusal = "remove"\n'


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Project:
    """A build of its own: what these tests leave is not what others expect of a first build."""
    project = Project(tmp_path_factory.mktemp("standing") / "a project")
    settings(project, weights)
    return project


@pytest.fixture
def built(own: Project, weights: Path) -> Project:
    settings(own, weights)
    ran = own.doit()
    assert ran.code == 0, ran.out
    return own


def ids(project: Project) -> set[str]:
    return set(caches.registrations(project.build / "foundry" / "cache" / "models"))


def registered(project: Project) -> set[str]:
    """Without the versions."""
    return {model_id.rpartition(":")[0] for model_id in ids(project)}


def id_of(project: Project, precision: str) -> str:
    return str(project.json(f"facts/{precision}/deploy.json")["id"])


def test_a_refused_precision_stays_and_is_told_everywhere_until_the_policy_removes_it(
    built: Project, weights: Path
) -> None:
    int8 = id_of(built, "int8")
    settings(built, weights, gates={"int8": {"kl": 1e-12}}, precisions=["int8", "int4"])
    ran = built.doit()
    assert ran.code == 0, ran.out
    said = f"{int8} of an earlier build stays in the cache and is served: int8 is refused now"
    for text in (ran.out, *(built.doit(command).out for command in ("check", "why"))):
        assert said in text
    report = (built.build / "report" / "index.html").read_text("utf-8")
    assert said in report and said in (built.build / "report" / "report.md").read_text("utf-8")
    assert registered(built) == {INT4, INT8}
    assert built.doit("undeploy", "--orphans").out.strip() == "there are no orphans"
    models = built.config / "models.toml"
    models.write_text(REMOVE + models.read_text("utf-8"), encoding="utf-8")
    ran = built.doit()
    assert ran.code == 0, ran.out
    assert f"{int8} was taken down" in ran.out
    assert registered(built) == {INT4}
    assert said not in built.doit("check").out


def test_a_dropped_precision_is_an_orphan_that_one_command_takes_down(built: Project, weights: Path) -> None:
    int8 = id_of(built, "int8")
    settings(built, weights, precisions=["int4"])
    ran = built.doit()
    assert ran.code == 0, ran.out
    assert f"{int8} is still served: nothing in {built.config / 'models.toml'} asks for it" in ran.out
    assert registered(built) == {INT4, INT8}
    ran = built.doit("undeploy", "facts-int5")
    assert (ran.code, registered(built)) == (3, {INT4, INT8})
    assert "there is no such model" in ran.out and "Did you mean facts-int" in ran.out
    ran = built.doit("undeploy", "--orphans")
    assert (ran.code, ran.out.strip()) == (0, f"{int8} taken down")
    assert registered(built) == {INT4}
    assert "reconcile" in built.doit("why").out.split("up to date")[0]


def test_a_model_whose_settings_are_wrong_right_now_is_not_an_orphan(built: Project, weights: Path) -> None:
    settings(built, weights, precisions=["int4", "nosuch"])
    models = built.config / "models.toml"
    models.write_text(REMOVE + models.read_text("utf-8"), encoding="utf-8")
    assert built.doit().code == 1
    assert built.doit("undeploy", "--orphans").code == 0
    assert registered(built) == {INT4, INT8}


def test_a_rebuilt_model_is_the_next_version_until_it_is_rolled_back(project: Project, tiny_trained: Path) -> None:
    def build(take: int) -> None:
        project.model(
            name="facts", source={"path": tiny_trained}, precisions=["fp16"], evaluation=project.facts(),
            sampling={"top_k": 10 * take},
        )  # fmt: skip
        ran = project.doit("reconcile")
        assert ran.code == 0, ran.out

    def versions() -> set[int]:
        return {int(model_id.rpartition(":")[2]) for model_id in ids(project)}

    build(1)
    assert versions() == {1}
    for number in (2, 3):
        build(number)
        assert id_of(project, "fp16") == f"facts-fp16-generic-cpu:{number}"
        assert project.json("facts/fp16/verify.json")["id"] == f"facts-fp16-generic-cpu:{number}"
    assert versions() == {2, 3}  # of those before it, one stays
    assert project.doit("rollback", "facts").code == 0
    assert versions() == {2}
    assert "is not listed any more: doit rollback" in project.doit("why", "deploy").out
    build(3)
    held = project.json("facts/fp16/deploy.json")
    assert held["reasons"][0].startswith("facts-fp16-generic-cpu:3, which is this build, was taken back")
    assert versions() == {2}
    assert "✗" not in project.doit("check", "reconcile").out
    build(4)
    assert versions() == {2, 4}  # what was taken back goes before what was served
    assert project.doit("rollback", "facts", "to=3").code == 1
    assert project.doit("rollback", "facts-fp16").code == 0
    assert versions() == {2}


def test_clean_leaves_no_orphan_in_the_builds_own_cache(built: Project, weights: Path) -> None:
    """The last of these: nothing stands any more."""
    settings(built, weights, precisions=["int4"])
    assert registered(built) == {INT4, INT8}
    ran = built.doit("clean")
    assert ran.code == 0, ran.out
    assert registered(built) == set()
    index = built.json("foundry/cache/models/foundry.local.modelinfo.json")
    assert json.dumps(index["models"]) == "[]"

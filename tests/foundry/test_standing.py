"""What is in a cache against what is asked for: what stays, what is an orphan, and what is never touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.common import json_files
from scripts.common.manifest import MANIFEST
from scripts.foundry import cache as caches
from scripts.foundry import external_state, standing
from scripts.foundry.deploy import deploy
from scripts.foundry.standing import Asked
from scripts.results import base
from scripts.runtime.foundry import Runtime
from tests.foundry.test_deploy import snapshot
from tests.report import results
from tests.served import MODEL_ID

NAME = MODEL_ID.rpartition(":")[0]


class Build:
    """A configuration and a build that has deployed the package as model "tiny", precision "fp32"."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.config, self.build = folder / "config", folder / "build"
        self.cache = self.build / "foundry" / "models"
        result = deploy(package, MODEL_ID, self.cache, self.config)
        base.write(self.build / "tiny" / "fp32" / "deploy.json", result)

    def asked(self, *, names: bool = True, broken: tuple[str, ...] = (), config: str = "config") -> Asked:
        found = {NAME: ["tiny", "fp32"]} if names else {}
        return Asked(self.config.with_name(config), self.build, found, broken)

    def judged_as(self, verdict: str, reason: str) -> None:
        held = {"verdict": verdict, "reasons": [reason], "id": MODEL_ID, "cache": str(self.cache)}
        json_files.write(self.build / "tiny" / "fp32" / "deploy.json", held)

    def listed(self) -> list[str]:
        with Runtime(self.cache) as runtime:
            return runtime.cached()


@pytest.fixture
def built(tmp_path: Path, package: Path) -> Build:
    return Build(tmp_path, package)


def stands(built: Build, **asked: Any) -> list[str]:
    return [one.standing for one in standing.judge(built.cache, built.asked(**asked))]


def test_what_the_build_deployed_stands_without_a_word(built: Build) -> None:
    [one] = standing.judge(built.cache, built.asked())
    assert (one.id, one.standing, one.told) == (MODEL_ID, "deployed", "")


def test_what_a_gate_refuses_now_stays_and_is_told_or_goes_by_the_policy(built: Build) -> None:
    built.judged_as("refused", "KL 0.4 is above the gate of 0.25")
    kept = standing.reconcile(built.cache, built.asked(), "keep", "doit undeploy --orphans")
    assert kept.verdict == "warned"
    assert kept.reasons == [
        f"{MODEL_ID} of an earlier build stays in the cache and is served: "
        "fp32 is refused now: KL 0.4 is above the gate of 0.25"
    ]
    assert standing.take_down_orphans(built.cache, built.asked()) == []  # it is the last good one, and no orphan
    assert built.listed() == [MODEL_ID]
    removed = standing.reconcile(built.cache, built.asked(), "remove", "")
    assert (removed.removed, removed.stands, removed.verdict) == ([MODEL_ID], [], "passed")
    assert built.listed() == []


@pytest.mark.parametrize("why", ["none", "dropped"])
def test_what_nothing_asks_for_is_an_orphan(built: Build, why: str) -> None:
    if why == "none":
        built.judged_as("skipped", 'deploy = "none"')
    asked = built.asked(names=why == "none")
    kept = standing.reconcile(built.cache, asked, "keep", "doit undeploy --orphans")
    assert [one.standing for one in kept.stands] == ["orphan"]
    assert kept.reasons[0].endswith("; doit undeploy --orphans takes it down")
    assert built.listed() == [MODEL_ID]
    assert standing.take_down_orphans(built.cache, asked) == [MODEL_ID]
    assert built.listed() == []


@pytest.mark.parametrize("how", ["settings", "step", "not run"])
@pytest.mark.parametrize("policy", ["keep", "remove"])
def test_where_nothing_is_known_nothing_is_taken_down(built: Build, how: str, policy: str) -> None:
    place = built.build / "tiny" / "fp32"
    if how == "step":
        marker = {"verdict": "skipped", "reasons": ["follows package:tiny-fp32: failed"], "step": "deploy:tiny-fp32"}
        json_files.write(place / ".ingot" / "deploy.failed.json", marker)
        built.judged_as("refused", "of an earlier run")
    if how == "not run":
        (place / "deploy.json").unlink()
    asked = built.asked(names=how != "settings", broken=("tiny",) if how == "settings" else ())
    found = standing.reconcile(built.cache, asked, policy, "")
    assert [one.standing for one in found.stands] == ["kept"]
    assert standing.take_down_orphans(built.cache, asked) == []
    assert built.listed() == [MODEL_ID]


def test_what_another_configuration_deployed_is_not_judged(built: Build) -> None:
    assert stands(built, names=False, config="another") == []
    assert standing.take_down_orphans(built.cache, built.asked(names=False, config="another")) == []


def test_a_model_of_before_configurations_were_told_is_that_of_the_builds_own_cache(built: Build) -> None:
    manifest = caches.home_of(built.cache, MODEL_ID) / MANIFEST
    value = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**value, "ingot": {"id": MODEL_ID}}))
    assert stands(built, names=False) == ["orphan"]
    elsewhere = Asked(built.config, built.build.with_name("other build"), {})
    assert standing.judge(built.cache, elsewhere) == []


def test_a_reused_model_is_known_by_whoever_asked_last(built: Build, package: Path) -> None:
    other = built.config.with_name("another")
    assert deploy(package, MODEL_ID, built.cache, other).action == "reused"
    assert stands(built) == []
    assert stands(built, config="another") == ["deployed"]


def test_what_does_not_carry_ingots_manifest_is_never_touched(built: Build, onnx_folder: Path, tmp_path: Path) -> None:
    theirs = built.cache / "ingot" / "theirs-fp32-generic-cpu"
    shutil.copytree(onnx_folder, theirs)
    (theirs / caches.MARKER).write_text(json.dumps({"Name": "theirs-fp32-generic-cpu:1"}))
    elsewhere = shutil.copytree(caches.home_of(built.cache, MODEL_ID), tmp_path / "elsewhere")
    (built.cache / "ingot" / "linked").symlink_to(elsewhere)
    with Runtime(built.cache) as runtime:
        runtime.register(theirs, "theirs-fp32-generic-cpu:1")
    before = {**snapshot(theirs), **snapshot(elsewhere)}
    result = standing.reconcile(built.cache, built.asked(names=False), "remove", "")
    assert result.removed == [MODEL_ID]
    assert {**snapshot(theirs), **snapshot(elsewhere)} == before
    assert built.listed() == ["theirs-fp32-generic-cpu:1"]


def test_a_model_that_came_or_went_is_seen(built: Build) -> None:
    result = base.plain(standing.reconcile(built.cache, built.asked(), "keep", ""))
    assert external_state.standing_holds(result, None) is None
    assert str(caches.home_of(built.cache, MODEL_ID) / MANIFEST) in external_state.standing_files(result)
    came = {**result, "stands": []}
    assert external_state.standing_holds(came, None) == f"{MODEL_ID} came into the Foundry cache"
    shutil.rmtree(caches.home_of(built.cache, MODEL_ID))
    assert external_state.standing_holds(result, None) == f"{MODEL_ID} is no longer in the Foundry cache"


def test_what_was_measured_of_a_version_stays_beside_it_when_the_next_is_deployed(built: Build, newer: Path) -> None:
    place = built.build / "tiny" / "fp32"
    for kl, package in ((0.2, None), (0.1, newer)):
        if package:
            result = deploy(package, MODEL_ID, built.cache, built.config)
            base.write(place / "deploy.json", result)
        json_files.write(place / "quality.json", results.quality(kl))
        json_files.write(
            place / "bench.json", results.bench("x") | {"package": "of an earlier one", "samples": {"a": 1}}
        )
        found = standing.reconcile(built.cache, built.asked(), "keep", "doit undeploy --orphans")
    figures = {one.id: one.figures for one in found.stands}
    assert [figures[f"{NAME}:{number}"].quality.kl for number in (1, 2)] == [0.2, 0.1]
    assert figures[MODEL_ID].performance is None  # it is about another package
    assert figures[MODEL_ID].size_bytes > 1000
    assert not caches.differences(
        caches.home_of(built.cache, MODEL_ID), caches.manifest_of(caches.home_of(built.cache, MODEL_ID))
    )
    before = snapshot(built.cache)
    standing.reconcile(built.cache, built.asked(), "keep", "doit undeploy --orphans")
    assert snapshot(built.cache) == before

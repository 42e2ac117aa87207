"""Deploying into caches in every state, in the real runtime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common.errors import IngotError
from scripts.foundry import cache as caches
from scripts.foundry import marks
from scripts.foundry.deploy import deploy, undeploy
from scripts.quality.policy import held_back
from scripts.results.base import Outcome
from scripts.results.quality import Advice
from scripts.runtime.foundry import Runtime
from tests.served import MODEL_ID


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "a cache" / "models"


def listed(cache: Path) -> list[str]:
    with Runtime(cache) as runtime:
        return runtime.cached()


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, our own lock file aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != ".lock"}


def test_a_package_is_deployed_then_reused(package: Path, cache: Path) -> None:
    first = deploy(package, MODEL_ID, cache)
    assert first.action == "deployed"
    folder = Path(str(first.path))
    assert folder == cache / "ingot" / "tiny-fp32-generic-cpu"
    assert caches.differences(folder, caches.manifest_of(package)) == []
    assert inside(folder.parent) == [".lock", folder.name]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert deploy(package, MODEL_ID, cache).action == "reused"
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert listed(cache) == [MODEL_ID]


def test_the_result_has_the_agreed_fields(package: Path, cache: Path) -> None:
    result = deploy(package, MODEL_ID, cache)
    fields = {"verdict", "reasons", "id", "cache", "path", "action", "taken_back", "runtime", "signed",
              "signed_content"}  # fmt: skip
    assert set(result.__struct_fields__) == fields
    assert (result.verdict, result.id, result.cache) == ("passed", MODEL_ID, str(cache))


def test_a_file_changed_in_the_cache_is_put_right(package: Path, cache: Path, spoil: Callable[[Path], None]) -> None:
    folder = Path(str(deploy(package, MODEL_ID, cache).path))
    (folder / "stray.txt").write_text("?")
    spoil(folder / "tokenizer.json")
    assert deploy(package, MODEL_ID, cache).action == "replaced"
    assert caches.differences(folder, caches.manifest_of(package)) == []


def test_a_lost_registration_is_made_again(package: Path, cache: Path) -> None:
    deploy(package, MODEL_ID, cache)
    with Runtime(cache) as runtime:
        runtime.unregister(MODEL_ID)
    assert deploy(package, MODEL_ID, cache).action == "registered again"
    assert listed(cache) == [MODEL_ID]


@pytest.mark.parametrize("keep", [False, True], ids=["moved", "copied"])
def test_a_cache_elsewhere_is_registered_again(package: Path, cache: Path, tmp_path: Path, keep: bool) -> None:
    deploy(package, MODEL_ID, cache)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(cache, elsewhere)
    if not keep:
        shutil.rmtree(cache)
    assert deploy(package, MODEL_ID, elsewhere).action == "registered again"
    assert caches.registrations(elsewhere) == {MODEL_ID: caches.home_of(elsewhere, MODEL_ID)}
    assert listed(elsewhere) == [MODEL_ID]


def test_a_foreign_folder_in_the_way_is_left_alone(package: Path, cache: Path) -> None:
    folder = caches.home_of(cache, MODEL_ID)
    folder.mkdir(parents=True)
    (folder / "precious.txt").write_text("mine")
    (folder / "manifest.json").write_text(json.dumps({"files": {"precious.txt": {"size": 4, "blake3": "?"}}}))
    before = snapshot(cache)
    with pytest.raises(IngotError, match="was not put there by Ingot"):
        deploy(package, MODEL_ID, cache)
    with pytest.raises(IngotError, match="was not put there by Ingot"):
        undeploy(MODEL_ID, cache)
    assert snapshot(cache) == before


def test_a_foreign_registration_is_left_alone(package: Path, cache: Path, onnx_folder: Path, tmp_path: Path) -> None:
    theirs = shutil.copytree(onnx_folder, tmp_path / "theirs")
    with Runtime(cache) as runtime:
        runtime.register(theirs, MODEL_ID)
    before = snapshot(cache)
    for there in (True, False):  # a folder that is gone for now (a disk not mounted) is still theirs
        if not there:
            shutil.rmtree(theirs)
        with pytest.raises(IngotError, match="which Ingot did not put there"):
            deploy(package, MODEL_ID, cache)
        assert undeploy(MODEL_ID, cache) == "nothing there"
        assert snapshot(cache) == before


@pytest.mark.parametrize("root", [False, True], ids=["", "below a root that looks like a model"])
def test_a_foreign_model_of_the_same_name_is_left_alone(
    package: Path, cache: Path, onnx_folder: Path, root: bool
) -> None:
    theirs = shutil.copytree(onnx_folder, cache / "custom" / "theirs")
    (theirs / caches.MARKER).write_text(json.dumps({"Name": MODEL_ID.upper()}))
    for name in (caches.MARKER, caches.SETTINGS) if root else ():
        shutil.copy(theirs / name, cache)
    before = snapshot(cache)
    with pytest.raises(IngotError, match="holds another model called"):
        deploy(package, MODEL_ID, cache)
    assert snapshot(cache) == before


def test_other_models_stay_registered(package: Path, newer: Path, cache: Path, onnx_folder: Path) -> None:
    with Runtime(cache) as runtime:
        runtime.register(onnx_folder, "theirs:1")
    deploy(package, MODEL_ID, cache)
    deploy(newer, MODEL_ID, cache)
    undeploy(MODEL_ID, cache)
    undeploy("tiny-fp32-generic-cpu:2", cache)
    assert listed(cache) == ["theirs:1"]
    assert (onnx_folder / "model.onnx").is_file()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"models": [{}]}', "\x00\xff"])
def test_an_index_that_cannot_be_read_is_explained_and_kept(package: Path, cache: Path, text: str) -> None:
    cache.mkdir(parents=True)
    (cache / caches.INDEX).write_text(text, encoding="latin-1")
    before = snapshot(cache)
    with pytest.raises(IngotError, match=r"cannot be read.*move it away and deploy again"):
        deploy(package, MODEL_ID, cache)
    assert snapshot(cache) == before
    (cache / caches.INDEX).unlink()
    assert deploy(package, MODEL_ID, cache).action == "deployed"


def test_a_cache_that_cannot_be_made_is_explained(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IngotError, match=r"the Foundry cache cannot be written.*foundry\.cache"):
        deploy(package, MODEL_ID, tmp_path / "file" / "models")


def test_a_package_that_is_not_as_its_manifest_says_is_not_deployed(
    package: Path, newer: Path, cache: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    deploy(package, MODEL_ID, cache)
    before = snapshot(cache)
    broken = shutil.copytree(newer, tmp_path / "broken")
    spoil(broken / "model.onnx.data")
    with pytest.raises(IngotError, match=r"model\.onnx\.data has other content"):
        deploy(broken, MODEL_ID, cache)
    assert snapshot(cache) == before


def test_a_package_for_another_id_is_not_deployed(package: Path, cache: Path) -> None:
    with pytest.raises(IngotError, match=f"is for the model {MODEL_ID}, not other:1"):
        deploy(package, "other:1", cache)


def test_a_folder_that_is_no_package_is_not_deployed(onnx_folder: Path, cache: Path) -> None:
    with pytest.raises(IngotError, match=r"has no inference_model\.json"):
        deploy(onnx_folder, MODEL_ID, cache)


def test_a_package_made_by_hand_is_deployed(package: Path, cache: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(package, tmp_path / "bare", ignore=shutil.ignore_patterns("manifest.json"))
    folder = Path(str(deploy(bare, MODEL_ID, cache).path))
    assert marks.owner(folder) == MODEL_ID
    assert deploy(package, MODEL_ID, cache).action == "reused"


def test_a_package_with_a_number_of_its_own_keeps_it(onnx_folder: Path, cache: Path, tmp_path: Path) -> None:
    from tests.served import write_package

    fifth = write_package(onnx_folder, tmp_path / "fifth", "tiny-fp32-generic-cpu:5")
    assert deploy(fifth, "tiny-fp32-generic-cpu:5", cache).action == "deployed"
    assert listed(cache) == ["tiny-fp32-generic-cpu:5"]


def test_undeploying_leaves_nothing_of_ours(package: Path, cache: Path) -> None:
    deploy(package, MODEL_ID, cache)
    assert undeploy(MODEL_ID, cache) == "removed"
    assert undeploy(MODEL_ID, cache) == "nothing there"
    assert inside(cache / "ingot") == [".lock"]
    assert caches.registrations(cache) == {}
    assert (package / "model.onnx.data").is_file()


def test_undeploying_from_nowhere_makes_nothing(cache: Path) -> None:
    assert undeploy(MODEL_ID, cache) == "nothing there"
    assert not cache.exists()


ADVICE = Advice(
    recommended="int8",
    reasons=[],
    precisions={
        "int4": Outcome(verdict="refused", reasons=["kl 0.4 above 0.25"]),
        "int8": Outcome(verdict="warned", reasons=["close"]),
        "fp16": Outcome(verdict="passed", reasons=[]),
    },
)


@pytest.mark.parametrize(
    ("precision", "policy", "verdict", "reason"),
    [
        ("int4", "all", "refused", "kl 0.4 above 0.25"),
        ("int8", "all", None, ""),
        ("int8", "recommended", None, ""),
        ("fp16", "recommended", "skipped", 'deploy = "recommended", which is int8'),
        ("fp16", "none", "skipped", 'deploy = "none"'),
    ],
)
def test_only_what_passed_and_is_wanted_is_deployed(
    precision: str, policy: str, verdict: str | None, reason: str
) -> None:
    held = held_back(ADVICE, precision, policy)
    assert (held and held.verdict) == verdict
    assert not held or held.reasons == [reason]

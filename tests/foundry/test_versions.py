"""Versions of a model in a cache: the next number, rolling back and forward, pruning; in the real runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from scripts.common.errors import IngotError
from scripts.common.hashes import digest_file
from scripts.foundry import cache as caches
from scripts.foundry import external_state, marks, standing, versions
from scripts.foundry.cache import MARKER
from scripts.foundry.deploy import deploy, undeploy
from scripts.results import base
from scripts.runtime.foundry import Runtime
from tests.served import MODEL_ID, write_package

NAME = MODEL_ID.rpartition(":")[0]
FIRST, SECOND, THIRD = (f"{NAME}:{number}" for number in (1, 2, 3))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "a cache" / "models"


@pytest.fixture
def two(package: Path, newer: Path, cache: Path) -> Path:
    """A cache with both packages as versions 1 and 2."""
    deploy(package, MODEL_ID, cache)
    assert deploy(newer, MODEL_ID, cache).id == SECOND
    return cache


def listed(cache: Path) -> list[str]:
    with Runtime(cache) as runtime:
        return runtime.cached()


def prune(cache: Path, keep: int, config: str = "/the/first") -> list[str]:
    """As a build does whose own cache this is, unless a mark says whose it is."""
    asked = standing.Asked(Path(config), cache.parent, {})
    return standing.prune(cache, NAME, keep, asked)


def scanned(cache: Path) -> list[str]:
    """What a runtime that scans would list."""
    names = (caches.marked_name(path) for path in cache.rglob(MARKER) if (path.parent / caches.SETTINGS).is_file())
    return sorted(filter(None, names))


def by_alias(cache: Path) -> str:
    """The version that the runtime gives for the name without device and number."""
    with Runtime(cache) as runtime:
        return str(runtime._catalog.get_model(NAME.removesuffix("-generic-cpu")).id)


def test_a_rebuilt_model_is_the_next_version_and_the_one_before_stays(two: Path, newer: Path) -> None:
    assert listed(two) == scanned(two) == [FIRST, SECOND]
    assert by_alias(two) == SECOND
    own = marks.versions(two, NAME)
    assert [one.version for one in own] == [2, 1]
    for one in own:
        files = caches.manifest_of(one.folder)
        assert caches.differences(one.folder, files) == []
        assert caches.marked_name(one.folder / MARKER) == one.id
    assert json.loads((own[0].folder / MARKER).read_text())["Description"] == "better"
    assert deploy(newer, MODEL_ID, two).action == "reused"


def with_card(onnx_folder: Path, folder: Path, text: str, note: str = "") -> Path:
    """A package whose card says this."""
    shutil.copytree(onnx_folder, folder / "onnx")
    (folder / "onnx/README.md").write_text(text, encoding="utf-8")
    return write_package(folder / "onnx", folder / "package", note=note)


def test_the_card_names_its_version(onnx_folder: Path, package: Path, cache: Path, tmp_path: Path) -> None:
    deploy(package, MODEL_ID, cache)
    newer = with_card(onnx_folder, tmp_path / "newer", f"| Model id | `{MODEL_ID}` |\n", note="better")
    result = deploy(newer, MODEL_ID, cache)
    assert (Path(str(result.path)) / "README.md").read_text() == f"| Model id | `{SECOND}` |\n"


def test_what_is_told_of_a_model_changes_in_place(onnx_folder: Path, two: Path, tmp_path: Path) -> None:
    told = with_card(onnx_folder, tmp_path / "told", f"`{MODEL_ID}` was asked more cases\n", note="better")
    result = deploy(told, MODEL_ID, two)
    assert (result.id, result.action) == (SECOND, "replaced")
    assert (Path(str(result.path)) / "README.md").read_text() == f"`{SECOND}` was asked more cases\n"
    assert listed(two) == scanned(two) == [FIRST, SECOND]
    assert deploy(told, MODEL_ID, two).action == "reused"


def test_a_version_that_is_asked_for_by_number_is_a_new_one(onnx_folder: Path, two: Path, tmp_path: Path) -> None:
    asked = write_package(onnx_folder, tmp_path / "asked", f"{NAME}:7", note="better")
    assert deploy(asked, f"{NAME}:7", two).id == f"{NAME}:7"
    assert listed(two) == [FIRST, SECOND, f"{NAME}:7"]


def test_rolling_back_lists_the_version_before_in_every_kind_of_runtime_and_forward_again(two: Path) -> None:
    assert versions.rollback(two, NAME) == ([SECOND, FIRST], FIRST)
    assert listed(two) == scanned(two) == [FIRST]
    assert by_alias(two) == FIRST
    assert versions.rollback(two, NAME, 2) == ([FIRST], SECOND)
    assert listed(two) == scanned(two) == [FIRST, SECOND]
    assert by_alias(two) == SECOND
    own = marks.versions(two, NAME)
    assert all(caches.differences(one.folder, caches.manifest_of(one.folder)) == [] for one in own)
    assert all("marker" not in one.mark and not one.taken_back for one in own)


def test_what_was_taken_back_is_not_deployed_again_but_what_is_rebuilt_is(
    two: Path, newer: Path, onnx_folder: Path, tmp_path: Path
) -> None:
    before = base.plain(deploy(newer, MODEL_ID, two))
    assert external_state.holds(before, digest_file) is None
    versions.rollback(two, NAME)
    assert external_state.holds(before, digest_file) == f"{SECOND} is not listed any more: doit rollback"
    result = deploy(newer, MODEL_ID, two)
    assert (result.verdict, result.action, result.path) == ("skipped", "rolled back", None)
    assert result.reasons == [f"{SECOND}, which is this build, was taken back by doit rollback; {FIRST} is served"]
    held = base.plain(result)
    assert external_state.holds(held, digest_file) is None
    assert listed(two) == [FIRST]
    third = write_package(onnx_folder, tmp_path / "third", note="better still")
    assert deploy(third, MODEL_ID, two).id == THIRD
    assert listed(two) == [FIRST, THIRD]
    versions.rollback(two, NAME, 2)
    assert listed(two) == [FIRST, SECOND]
    assert external_state.holds(held, digest_file) == f"{SECOND} is not taken back any more"


def test_an_earlier_content_that_comes_back_is_the_next_version(two: Path, package: Path) -> None:
    result = deploy(package, MODEL_ID, two)
    assert (result.id, result.action) == (THIRD, "deployed")
    assert by_alias(two) == THIRD


def test_only_a_verified_version_takes_the_place_of_those_before_it(two: Path, package: Path) -> None:
    deploy(package, MODEL_ID, two)
    assert prune(two, 1) == []
    assert listed(two) == [FIRST, SECOND, THIRD]
    marks.note_verified(caches.home_of(two, THIRD), "a runtime", "2026-01-01T00:00:00+00:00")
    assert prune(two, 1) == [FIRST]
    assert listed(two) == [SECOND, THIRD]
    assert prune(two, 0) == [SECOND]
    assert (package / "model.onnx.data").is_file()


def test_what_was_taken_back_is_removed_before_what_was_served(two: Path, onnx_folder: Path, tmp_path: Path) -> None:
    versions.rollback(two, NAME)
    deploy(write_package(onnx_folder, tmp_path / "third", note="third"), MODEL_ID, two)
    marks.note_verified(caches.home_of(two, THIRD), "a runtime", "2026-01-01T00:00:00+00:00")
    assert prune(two, 1) == [SECOND]
    assert listed(two) == [FIRST, THIRD]


def test_pruning_counts_and_removes_nothing_of_another_configuration(cache: Path, package: Path, newer: Path) -> None:
    deploy(package, MODEL_ID, cache, Path("/the/other"))
    for made in (newer, package):
        deploy(made, MODEL_ID, cache, Path("/the/first"))
    marks.note_verified(caches.home_of(cache, THIRD), "a runtime", "2026-01-01T00:00:00+00:00")
    assert prune(cache, 1) == [] and prune(cache, 0) == [SECOND]
    assert listed(cache) == [FIRST, THIRD]


def test_one_name_of_two_configurations_in_one_cache_is_told_when_it_is_deployed(
    cache: Path, package: Path, newer: Path
) -> None:
    assert deploy(package, MODEL_ID, cache, Path("/the/other")).reasons == []
    (told,) = deploy(newer, MODEL_ID, cache, Path("/the/first")).reasons
    assert f"({FIRST}, by /the/other)" in told and "a cache of its own" in told


def test_a_version_that_does_not_answer_as_it_should_gives_way_to_the_one_before(two: Path, newer: Path) -> None:
    assert versions.fall_back(two, SECOND) is None  # nobody knows whether the one before did
    marks.note_verified(caches.home_of(two, FIRST), "a runtime", "2026-01-01T00:00:00+00:00")
    assert versions.fall_back(two, SECOND) == FIRST
    assert listed(two) == scanned(two) == [FIRST]
    again = deploy(newer, MODEL_ID, two)  # it is tried again, as the same version
    assert (again.id, again.action) == (SECOND, "registered again")
    assert listed(two) == [FIRST, SECOND]


def test_a_version_that_is_not_there_or_not_whole_is_told_and_nothing_changes(two: Path) -> None:
    with pytest.raises(IngotError, match=r"no such version any more\. There are: 2, 1"):
        versions.rollback(two, NAME, 7)
    (caches.home_of(two, FIRST) / "tokenizer.json").unlink()
    with pytest.raises(IngotError, match=r"is not whole: tokenizer\.json is missing"):
        versions.rollback(two, NAME)
    shutil.rmtree(caches.home_of(two, FIRST))  # by hand
    with pytest.raises(IngotError, match=r"no version before the one that is listed\. There are: 2"):
        versions.rollback(two, NAME)
    assert listed(two) == [SECOND]


def test_taking_down_the_newest_leaves_the_one_before(two: Path) -> None:
    assert undeploy(SECOND, two) == "removed"
    assert listed(two) == [FIRST]
    assert by_alias(two) == FIRST


def test_a_damaged_version_is_mended_under_its_number(two: Path, newer: Path) -> None:
    folder = caches.home_of(two, SECOND)
    (folder / "stray").write_text("?")
    (folder / "tokenizer.json").unlink()
    result = deploy(newer, MODEL_ID, two)
    assert (result.id, result.action) == (SECOND, "replaced")
    assert caches.differences(folder, caches.manifest_of(folder)) == []
    assert listed(two) == [FIRST, SECOND]


def test_a_cache_that_lost_its_index_has_every_version_listed_again(two: Path, newer: Path) -> None:
    (two / caches.INDEX).unlink()
    assert deploy(newer, MODEL_ID, two).action == "registered again"
    assert listed(two) == [FIRST, SECOND]


def test_a_version_of_somebody_else_is_in_the_way(two: Path, onnx_folder: Path, tmp_path: Path) -> None:
    with Runtime(two) as runtime:
        runtime.register(onnx_folder, THIRD)
    third = write_package(onnx_folder, tmp_path / "third", note="third")
    with pytest.raises(IngotError, match="which Ingot did not put there"):
        deploy(third, MODEL_ID, two)
    assert listed(two) == [FIRST, SECOND, THIRD]


def test_what_somebody_else_registered_as_a_version_that_was_taken_back_stays(two: Path, onnx_folder: Path) -> None:
    versions.rollback(two, NAME)
    with Runtime(two) as runtime:
        runtime.register(onnx_folder, SECOND)
        versions.settle(runtime, two, NAME)
    assert caches.registrations(two)[SECOND] == onnx_folder

"""What `doit` believes of a deployed model: seen again each time, but no byte read twice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.common.manifest import MANIFEST
from scripts.engine.digests import Digests
from scripts.engine.state import State
from scripts.foundry import external_state
from scripts.foundry.deploy import deploy
from scripts.foundry.external_state import undeploy
from scripts.results import base
from scripts.runtime.foundry import Runtime
from tests.served import MODEL_ID


@pytest.fixture
def result(package: Path, tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = base.plain(deploy(package, MODEL_ID, tmp_path / "models"))
    return found


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    return Digests(State(tmp_path / "state.db"))


def holds(result: dict[str, Any], digests: Digests) -> str | None:
    return external_state.holds(result, digests.of)


def test_a_deployed_model_is_read_once_and_never_again(
    result: dict[str, Any], digests: Digests, tmp_path: Path
) -> None:
    assert holds(result, digests) is None
    folder = Path(result["path"])
    content = [path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST]
    assert digests.hashed_bytes == sum(content)
    assert holds(result, digests) is None
    assert digests.hashed_bytes == sum(content)
    later = Digests(State(tmp_path / "state.db"))  # another run of doit
    assert holds(result, later) is None
    assert later.hashed_bytes == 0


def test_a_byte_changed_in_the_cache_is_seen(
    result: dict[str, Any], digests: Digests, spoil: Callable[[Path], None]
) -> None:
    assert holds(result, digests) is None
    file = Path(result["path"]) / "tokenizer.json"
    before = file.stat()
    spoil(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "tokenizer.json has other content" in str(holds(result, digests))


def test_a_registration_that_is_gone_or_points_elsewhere_is_seen(
    result: dict[str, Any], digests: Digests, package: Path
) -> None:
    with Runtime(Path(result["cache"])) as runtime:
        runtime.unregister(MODEL_ID)
        assert "is not registered for" in str(holds(result, digests))
        runtime.register(package, MODEL_ID)
    assert "is not registered for" in str(holds(result, digests))


def test_a_folder_that_went_or_became_anothers_is_seen(result: dict[str, Any], digests: Digests) -> None:
    folder = Path(result["path"])
    manifest = folder / MANIFEST
    value = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**value, "ingot": {"id": "another:1"}}))
    assert "does not hold" in str(holds(result, digests))
    shutil.rmtree(folder)
    assert "does not hold" in str(holds(result, digests))


def test_what_was_not_deployed_claims_nothing(digests: Digests) -> None:
    held_back = {"verdict": "refused", "path": None, "id": MODEL_ID, "cache": "/nowhere"}
    assert holds(held_back, digests) is None
    assert list(external_state.files(held_back)) == []
    assert undeploy(Path("/build"))(held_back) == ()


def test_only_the_builds_own_cache_is_cleaned(tmp_path: Path) -> None:
    inside = {"path": "x", "id": MODEL_ID, "cache": str(tmp_path / "build" / "foundry")}
    outside = {**inside, "cache": str(tmp_path / "home")}
    assert "undeploy" in undeploy(tmp_path / "build")(inside)
    assert undeploy(tmp_path / "build")(outside) == ()

"""Two clones with one store: what the first has built, the second fetches, byte for byte, and builds nothing heavy."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from scripts.common.hashes import digest_file
from tests.system.project import Project, Ran

TASKS = ("package:facts-int8", "quality:facts-int8")
STORED = ("checkpoint", "reference", "export", "quality", "quantize", "package")


def built(folder: Path, weights: Path, store: Path, *, write: bool) -> tuple[Project, Ran, float]:
    project = Project(folder)
    own = shutil.copytree(weights, folder / "own weights")
    row = {"name": "facts", "source": {"path": own}, "precisions": ["int8"], "evaluation": project.facts()}
    extra = f'[store]\nurl = "{store.as_uri()}"\nwrite = {str(write).lower()}\n'
    project.models(row, extra=extra)
    started = time.monotonic()
    ran = project.doit(*TASKS)
    return project, ran, time.monotonic() - started


def manifests(project: Project) -> dict[str, bytes]:
    """What says which bytes came out, and the results; not what is never stored."""
    found = [*project.build.rglob("manifest.json"), *project.build.rglob("quality.json")]
    names = {path: path.relative_to(project.build).as_posix() for path in found}
    return {name: path.read_bytes() for path, name in names.items()
            if not name.startswith(("store/", ".work/"))}  # fmt: skip


def test_the_second_clone_builds_nothing_heavy(tmp_path: Path, weights: Path) -> None:
    pytest.importorskip("fsspec")
    store = tmp_path / "mnt"
    store.mkdir()
    first, ran, long = built(tmp_path / "one", weights, store, write=True)
    assert ran.code == 0 and "shared store file" not in ran.out, ran.out
    second, again, short = built(tmp_path / "the other", weights, store, write=False)
    assert again.code == 0 and "shared store file" not in again.out, again.out
    assert {step.partition(":")[0] for step in ran.steps} >= set(STORED)
    assert not again.steps, again.out
    assert manifests(first) == manifests(second) and len(manifests(first)) >= 5
    assert second.doit("check", "--deep", *TASKS).code == 0
    linked = second.build / "facts/checkpoint/model.safetensors"
    assert linked.is_symlink() and linked.readlink() == tmp_path / "the other/own weights/model.safetensors"
    weight = digest_file(weights / "model.safetensors")
    assert not list(store.rglob(weight)), "the user's own weights stay where they are"
    assert short < long
    print(f"first {long:.1f} s, second {short:.1f} s")

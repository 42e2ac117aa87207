"""One process that has the heavy libraries loaded, and a project with a sound model that is built already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import limited


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[limited.Stages]:
    if not hasattr(os, "fork"):
        pytest.skip("a system that can't fork")
    loads = ("transformers.modeling_utils", "scripts.checkpoint.build", "scripts.package.build")
    made = limited.Stages(tmp_path_factory.mktemp("stages"), *loads)
    yield made
    made.end()


@pytest.fixture
def weights(tmp_path: Path, tiny_llama: Path) -> Path:
    """A copy of a sound checkpoint, to be spoilt."""
    return limited.copy(tiny_llama, tmp_path / "weights")


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> limited.Hostile:
    made = limited.Hostile(tmp_path_factory.mktemp("built") / "project", tiny_llama)
    made.beside()
    ended = made.run("checkpoint")
    assert ended.code == 0, ended.out
    return made


@pytest.fixture
def hostile(tmp_path: Path, _built: limited.Hostile, tiny_llama: Path) -> limited.Hostile:
    """A project of its own, whose model `good` has its checkpoint."""
    made = limited.Hostile(tmp_path / "project", tiny_llama)
    made.beside()
    shutil.copytree(_built.build, made.build, symlinks=True)
    return made

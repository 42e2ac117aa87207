"""Sharp models, each made once; a test that damages one copies it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.field import inputs


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untied: a head of its own."""
    return inputs.sharp(tmp_path_factory.mktemp("field") / "llama", tied=False)


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tied: the head is the embedding; biases."""
    return inputs.sharp(tmp_path_factory.mktemp("field") / "qwen2", "qwen2", tied=True)


@pytest.fixture
def weights(llama: Path, tmp_path: Path) -> Path:
    """A copy of `llama` to damage."""
    return inputs.copy(llama, tmp_path / "weights")


@pytest.fixture
def tied(qwen2: Path, tmp_path: Path) -> Path:
    """A copy of `qwen2` to damage."""
    return inputs.copy(qwen2, tmp_path / "tied")

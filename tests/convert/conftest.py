"""One float export per family and session."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.convert.export import export


@pytest.fixture(scope="session")
def llama_export(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """Tied embeddings; a path with a space in it."""
    output = tmp_path_factory.mktemp("exports") / "llama export"
    export(tiny_llama, output)
    return output


@pytest.fixture(scope="session")
def qwen2_export(tmp_path_factory: pytest.TempPathFactory, tiny_qwen2: Path) -> Path:
    """Untied embeddings."""
    output = tmp_path_factory.mktemp("exports") / "qwen2"
    export(tiny_qwen2, output)
    return output

"""One float export per family and session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.convert.export import export
from tests import tiny


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


@pytest.fixture(scope="session")
def trained_export(tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path) -> Path:
    output = tmp_path_factory.mktemp("trained") / "export"
    export(tiny_trained, output)
    return output


@pytest.fixture(scope="session")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the trained model was trained on, as JSON lines."""
    path = tmp_path_factory.mktemp("texts") / "own talk.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in tiny.FACTS * 6
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    return path

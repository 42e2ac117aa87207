"""A model with an opinion, its float export, and the truth about it: each made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.quality import reference
from tests import tiny


def convert(checkpoint: Path, folder: Path, precision: str = "fp32", *options: str) -> Path:
    """A GenAI folder straight from the builder."""
    from onnxruntime_genai.models import builder

    cache = str(folder.parent / "cache")
    parsed = builder.parse_extra_options(None, str(checkpoint), str(folder), precision, "cpu", cache, list(options))
    builder.create_model(None, str(checkpoint), str(folder), precision, "cpu", cache, **parsed)
    return folder


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path) -> Path:
    return convert(tiny_trained, tmp_path_factory.mktemp("float") / "export")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path) -> Path:
    """The conversations that the model was taught, template and all."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_trained)
    path = tmp_path_factory.mktemp("a text") / "facts.txt"
    turns = [tokenizer.apply_chat_template(tiny.conversation(*fact), tokenize=False) for fact in tiny.FACTS]
    path.write_text("".join(turns), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path, text: Path) -> Path:
    folder = tmp_path_factory.mktemp("truth") / "reference"
    reference.build(tiny_trained, {"facts": text}, folder)
    return folder

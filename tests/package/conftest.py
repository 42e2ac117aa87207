"""A real export to package, made once, and folders to spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """The tiny Llama as an ONNX Runtime GenAI folder in fp32, made by the builder itself."""
    from onnxruntime_genai.models import builder

    scratch = tmp_path_factory.mktemp("exported")
    target = scratch / "onnx"
    options = builder.parse_extra_options(None, str(tiny_llama), str(target), "fp32", "cpu", str(scratch / "cache"), [])
    builder.create_model(None, str(tiny_llama), str(target), "fp32", "cpu", str(scratch / "cache"), **options)
    return target


@pytest.fixture
def onnx(exported: Path, tmp_path: Path) -> Path:
    """The export, to be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "an onnx folder"))


@pytest.fixture
def checkpoint(tiny_llama: Path, tmp_path: Path) -> Path:
    """The checkpoint without its weights, which packaging never reads, to be spoilt."""
    ignore = shutil.ignore_patterns("*.safetensors")
    return Path(shutil.copytree(tiny_llama, tmp_path / "a checkpoint", ignore=ignore))


@pytest.fixture
def change() -> Callable[..., None]:
    """Change keys of a JSON file; None removes one."""

    def change(path: Path, **values: Any) -> None:
        content = json.loads(path.read_text(encoding="utf-8")) | values
        content = {key: value for key, value in content.items() if value is not None}
        path.write_text(json.dumps(content), encoding="utf-8")

    return change

"""A small model that knows its facts, as a package: made once a session by the builder itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common.manifest import MANIFEST
from scripts.foundry import cache as caches

MODEL_ID = "tiny-fp32-generic-cpu:1"


def write_package(onnx: Path, target: Path, model_id: str = MODEL_ID, note: str = "") -> Path:
    """An ONNX GenAI folder as a package of the build: named, with a manifest. `note` makes it another version."""
    shutil.copytree(onnx, target)
    if note:
        settings = target / "tokenizer_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text("utf-8")) | {"note": note}), encoding="utf-8")
    marker = {"Name": model_id, "Description": note}
    (target / caches.MARKER).write_text(json.dumps(marker), encoding="utf-8")
    manifest = {"files": caches.contents(target)}
    (target / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return target


def build_onnx(checkpoint: Path, scratch: Path) -> Path:
    """A checkpoint as an fp32 ONNX Runtime GenAI folder below `scratch`."""
    from onnxruntime_genai.models import builder

    target = scratch / "onnx"
    options = builder.parse_extra_options(None, str(checkpoint), str(target), "fp32", "cpu", str(scratch), [])
    builder.create_model(None, str(checkpoint), str(target), "fp32", "cpu", str(scratch), **options)
    return target


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path) -> Path:
    """The trained Llama as an fp32 ONNX Runtime GenAI folder."""
    return build_onnx(tiny_trained, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, onnx_folder: Path) -> Path:
    """The package, not to be changed; its path has a space in it."""
    return write_package(onnx_folder, tmp_path_factory.mktemp("of a build") / "package")


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory, onnx_folder: Path) -> Path:
    """The same model, described otherwise: another content under the same id."""
    return write_package(onnx_folder, tmp_path_factory.mktemp("newer") / "package", note="better")


@pytest.fixture
def spoil() -> Callable[[Path], None]:
    """Change one byte in the middle of a file, in place."""

    def change(path: Path) -> None:
        with path.open("rb+") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 0x55]))

    return change

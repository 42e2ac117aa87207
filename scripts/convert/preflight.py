"""What can be refused in milliseconds, before the seconds of importing Olive and the builder."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

from scripts.checkpoint.headers import read_safetensors
from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import files_in, holds_tokenizer, is_weight_file


def checkpoint(folder: Path) -> None:
    """Raise `IngotError` unless `folder` holds config, tokenizer and weights of a model that the builder knows."""
    if not folder.is_dir():
        raise IngotError(folder, "there is no such folder", "Give a Hugging Face checkpoint folder")
    path = folder / "config.json"
    try:
        names = json_files.read(path).get("architectures") or ["none"]
    except FileNotFoundError:
        raise IngotError(path, "is missing", "Give a Hugging Face checkpoint folder") from None
    except (ValueError, AttributeError):
        raise IngotError(path, "is not a JSON object", "Save the checkpoint again") from None
    if names[0] not in architectures():
        near = difflib.get_close_matches(names[0], architectures(), n=3, cutoff=0.5)
        known = f"Known to it, for example: {', '.join(near)}" if near else "Convert another model"
        raise IngotError(path, f"architecture {names[0]} is unknown to the GenAI builder", known)
    if not holds_tokenizer(folder):
        raise IngotError(folder, "has no tokenizer (tokenizer.json)", "Save the tokenizer beside the model")
    weights = files_in(folder, is_weight_file)
    if not weights:
        raise IngotError(folder, "has no weights (*.safetensors)", "Save the model with save_pretrained")
    for file in weights:
        read_safetensors(file)


def onnx(folder: Path) -> None:
    """Raise `IngotError` unless `folder` is an export of ours."""
    for name in ("model.onnx", "model.onnx.data", "genai_config.json"):
        if not (folder / name).is_file():
            raise IngotError(folder / name, "is missing", "Give the folder that `export` made")


@cache
def architectures() -> tuple[str, ...]:
    """The architectures that the installed builder knows, read from its source without the seconds of importing it."""
    spec = importlib.util.find_spec("onnxruntime_genai")
    if spec is None or spec.origin is None:
        raise IngotError("onnxruntime-genai", "is not installed", "Run `make setup`")
    source = (Path(spec.origin).parent / "models" / "builder.py").read_text(encoding="utf-8")
    return tuple(sorted(set(re.findall(r'architectures\[0\] == "(\w+)"', source))))

"""What can be refused in milliseconds, before the seconds of importing Olive and the builder."""

from __future__ import annotations

from pathlib import Path

from scripts.checkpoint.headers import read_safetensors
from scripts.common import genai_config, json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import GRAPH, GRAPH_DATA, files_in, holds_tokenizer, is_weight_file
from scripts.families import supported


def checkpoint(folder: Path, exporter: str | None = None) -> str:
    """Who makes the model in `folder`: the `exporter` that is asked for, else the first that can.

    Raises `IngotError` unless it holds config, tokenizer and weights of a model that there is an exporter for.
    """
    if not folder.is_dir():
        raise IngotError(folder, "there is no such folder", "Give a Hugging Face checkpoint folder")
    path = folder / "config.json"
    try:
        config = json_files.read(path)
    except FileNotFoundError:
        raise IngotError(path, "is missing", "Give a Hugging Face checkpoint folder") from None
    except ValueError:
        raise IngotError(path, "is not a JSON object", "Save the checkpoint again") from None
    if not isinstance(config, dict):
        raise IngotError(path, "is not a JSON object", "Save the checkpoint again")
    chosen = supported.exporter(path, config, exporter)
    if not holds_tokenizer(folder):
        raise IngotError(folder, "has no tokenizer (tokenizer.json)", "Save the tokenizer beside the model")
    weights = files_in(folder, is_weight_file)
    if not weights:
        raise IngotError(folder, "has no weights (*.safetensors)", "Save the model with save_pretrained")
    for file in weights:
        read_safetensors(file)
    return chosen


def onnx(folder: Path) -> None:
    """Raise `IngotError` unless `folder` is what `export` made."""
    for name in (GRAPH, GRAPH_DATA, genai_config.NAME):
        if not (folder / name).is_file():
            raise IngotError(folder / name, "is missing", "Give the folder that `export` made")

"""What Foundry Local demands of a model's id and folder, checked before the runtime gets to see either.

Source: the behaviour of the Foundry Local runtime, SDK 2.0.1 (folders are scanned) and 2.2.1 (ids are registered).
The scanner skips what it can't read without a word, so everything that it would skip is an error here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.genai_config import providers
from scripts.common.model_files import SERVED_TOKENIZER
from scripts.common.model_id import parse


def read_genai_config(folder: Path) -> dict[str, Any]:
    """Read `folder`'s genai_config.json; `IngotError` where it is missing or not what the runtime can parse."""
    path = folder / "genai_config.json"
    if not path.is_file():
        raise IngotError(path, "missing", "An ONNX Runtime GenAI folder has one: run the conversion again")
    try:
        config = json_files.read(path)
    except ValueError as error:
        raise IngotError(path, f"not JSON ({error.__cause__})", "Run the conversion again") from None
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("model", "search")):
        raise IngotError(path, "holds no tables `model` and `search`", "Run the conversion again")
    return config


def model_files(config: dict[str, Any]) -> list[str]:
    """Names of the ONNX graphs that a genai_config.json tells the runtime to open."""
    parts = (part for part in config["model"].values() if isinstance(part, dict))
    return [part["filename"] for part in parts if isinstance(part.get("filename"), str)]


def check_folder(folder: Path, model_id: str) -> None:
    """Check a finished package against Foundry's scanner and registration; `IngotError` names the first breach."""
    name = parse(model_id).name
    config = read_genai_config(folder)
    for graph in model_files(config) or ["model.onnx"]:
        if not (folder / graph).is_file():
            raise IngotError(folder / graph, "missing, but genai_config.json names it", "Run the conversion again")
    for required in SERVED_TOKENIZER:
        if not (folder / required).is_file():
            raise IngotError(folder / required, "missing", "The checkpoint must hold a fast tokenizer")
    if "cuda-gpu" in name and not any(provider.lower() == "cuda" for provider in providers(config)):
        raise IngotError(
            f"model id {model_id!r}",
            "a name with `cuda-gpu` makes Foundry demand CUDA, and this model runs on "
            + (", ".join(providers(config)) or "CPU"),
            "Name it …-generic-cpu, or take a recipe whose target is cuda",
        )
    for stray in (*folder.rglob("download.tmp"), *folder.glob("*/**/genai_config.json")):
        raise IngotError(stray, "makes Foundry's scanner skip the model or what is nested in it", "Remove it")
    written = json_files.read(folder / "inference_model.json")
    if written.get("Name") != model_id:
        raise IngotError(folder / "inference_model.json", f"Name is {written.get('Name')!r}, not {model_id!r}")

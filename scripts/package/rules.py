"""What Foundry Local demands of a model's id and folder, checked before the runtime gets to see either.

Source: the behaviour of the Foundry Local runtime, SDK 2.0.1 (folders are scanned) and 2.2.1 (ids are registered).
The scanner skips what it can't read without a word, so everything that it would skip is an error here.
"""

from __future__ import annotations

from pathlib import Path

from scripts.common import genai_config, json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import SERVED_TOKENIZER
from scripts.common.model_id import parse


def check_folder(folder: Path, model_id: str) -> None:
    """Check a finished package against Foundry's scanner and registration; `IngotError` names the first breach."""
    name = parse(model_id).name
    config = genai_config.read(folder)
    for graph in genai_config.graphs(config) or ["model.onnx"]:
        if not (folder / graph).is_file():
            raise IngotError(folder / graph, "missing, but genai_config.json names it", "Run the conversion again")
    for required in SERVED_TOKENIZER:
        if not (folder / required).is_file():
            raise IngotError(folder / required, "missing", "The checkpoint must hold a fast tokenizer")
    if "cuda-gpu" in name and not any(provider.lower() == "cuda" for provider in genai_config.providers(config)):
        raise IngotError(
            f"model id {model_id!r}",
            "a name with `cuda-gpu` makes Foundry demand CUDA, and this model runs on "
            + (", ".join(genai_config.providers(config)) or "CPU"),
            "Name it …-generic-cpu, or take a recipe whose target is cuda",
        )
    for stray in (*folder.rglob("download.tmp"), *folder.glob("*/**/genai_config.json")):
        raise IngotError(stray, "makes Foundry's scanner skip the model or what is nested in it", "Remove it")
    written = json_files.read(folder / "inference_model.json")
    if written.get("Name") != model_id:
        raise IngotError(folder / "inference_model.json", f"Name is {written.get('Name')!r}, not {model_id!r}")

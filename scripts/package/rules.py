"""What Foundry Local demands of a model's id and folder, checked before the runtime gets to see either.

Source: the behaviour of the Foundry Local runtime, SDK 2.0.1 (folders are scanned) and 2.2.1 (ids are registered).
The scanner skips what it can't read without a word, so everything that it would skip is an error here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import SERVED_TOKENIZER

#: A registered id: a name and a whole number; `v:1.0` and `v:01` are refused by the runtime.
_ID = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*):(?P<version>0|[1-9][0-9]*)")
_DEVICE = re.compile(r"-generic-(cpu|gpu|npu)$")


@dataclass(frozen=True)
class ModelId:
    """`name:version`, taken apart; `alias` is what `foundry model run` and the server's load route know it by."""

    name: str
    version: int
    alias: str


def parse_id(text: str) -> ModelId:
    """Take a model id apart; `IngotError` where Foundry would refuse to register it."""
    match = _ID.fullmatch(text)
    if match is None:
        raise IngotError(
            f"model id {text!r}",
            "Foundry Local would refuse it",
            "Use letters, digits, '.', '_' and '-', starting with a letter or digit, then ':' and a whole number "
            "without leading zeros, such as triage-int4-generic-cpu:1",
        )
    return ModelId(match["name"], int(match["version"]), _DEVICE.sub("", match["name"]))


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


def providers(config: dict[str, Any]) -> list[str]:
    """Execution providers that the decoder asks for; none means CPU."""
    session = config["model"].get("decoder", {}).get("session_options", {})
    return [name for options in session.get("provider_options", []) for name in options]


def check_folder(folder: Path, model_id: str) -> None:
    """Check a finished package against Foundry's scanner and registration; `IngotError` names the first breach."""
    name = parse_id(model_id).name
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

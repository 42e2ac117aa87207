"""What a genai_config.json, the settings of a model folder for onnxruntime-genai, says of the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.typed import parse

NAME = "genai_config.json"
#: Keys of `model` that name the tokens which open and close a tool call, and what is thought before an answer.
TOOL_CALL = ("bot_token_id", "eot_token_id")
REASONING = ("bor_token_id", "eor_token_id")
_Number = Annotated[int, Meta(ge=0, le=1 << 40)]


class _Session(Struct, frozen=True):
    provider_options: list[dict[str, Any]] = []


class _Decoder(Struct, frozen=True):
    session_options: _Session = _Session()
    num_key_value_heads: _Number = 0
    head_size: _Number = 0
    num_hidden_layers: _Number = 0


class _Model(Struct, frozen=True):
    decoder: _Decoder = _Decoder()
    context_length: _Number = 0


class _Settings(Struct):
    """What is read of the settings here and elsewhere; there is more in them."""

    model: _Model
    search: dict[str, Any]


def read(folder: Path) -> dict[str, Any]:
    """A model folder's settings. Raises `IngotError` where they are missing or not what the runtime can parse."""
    path = folder / NAME
    if not path.is_file():
        raise IngotError(path, "missing", "An ONNX Runtime GenAI folder has one: run the conversion again")
    try:
        config = json_files.read(path)
    except json_files.NotJsonError as error:
        raise IngotError(path, error.found, "Run the conversion again") from None
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("model", "search")):
        raise IngotError(path, "holds no tables `model` and `search`", "Run the conversion again")
    parse(config, _Settings, file=path)
    return config


def graphs(config: Mapping[str, Any]) -> list[str]:
    """Names of the ONNX graphs that the runtime is told to open."""
    parts = (part for part in config["model"].values() if isinstance(part, dict))
    return [part["filename"] for part in parts if isinstance(part.get("filename"), str)]


def providers(config: Mapping[str, Any]) -> list[str]:
    """Execution providers that the decoder asks for; none means CPU."""
    session = config["model"].get("decoder", {}).get("session_options", {})
    return [name for options in session.get("provider_options", []) for name in options]


def has_markers(config: Mapping[str, Any], keys: tuple[str, str]) -> bool:
    """Whether the settings publish two tokens, such as `TOOL_CALL` or `REASONING`."""
    return all(type(config["model"].get(key)) is int for key in keys)


def key_value_bytes(config: Mapping[str, Any], folder: Path | None = None) -> int | None:
    """Bytes of keys and values for a full context; None where the settings do not tell. `folder`: where the graph is
    that tells of which type they are; else they are taken for float32, as they are on a CPU.
    """
    model = config["model"]
    try:
        sizes = [int(model["decoder"][key]) for key in ("num_key_value_heads", "head_size", "num_hidden_layers")]
        heads, size, layers = sizes
        width = _key_width(folder / model["decoder"]["filename"], model["decoder"]) if folder else 4
        return 2 * layers * heads * size * int(model["context_length"]) * width
    except (KeyError, TypeError):
        return None


def _key_width(graph: Path, decoder: Mapping[str, Any]) -> int:
    """Bytes of one number of a key, by the graph's first input of keys; 4 where it has none of that name."""
    import onnx

    name = decoder.get("inputs", {}).get("past_key_names", "past_key_values.%d.key")
    start, end = name.split("%d")
    for value in onnx.load(str(graph), load_external_data=False).graph.input:
        if value.name.startswith(start) and value.name.endswith(end):
            return int(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).itemsize)
    return 4

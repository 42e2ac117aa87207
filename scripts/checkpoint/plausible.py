"""Is a config.json plausible beside the tensors of its files? Decided before a class is built from its numbers.

Building a class costs time by its number of modules, whatever their width: so counts of layers and experts are held
against the tensors' names here, and widths are left to the class itself (see `truth`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.checkpoint.headers import Tensor
from scripts.common.errors import IngotError

#: Sizes that must be whole and positive where they are given, and the largest that can be meant.
_SIZES = {
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 24,
    "num_hidden_layers": 1 << 12,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 16,
    "vocab_size": 1 << 26,
    "max_position_embeddings": 1 << 24,
    "num_experts": 1 << 14,
    "num_local_experts": 1 << 14,
    "n_routed_experts": 1 << 14,
    "num_experts_per_tok": 1 << 14,
    "moe_intermediate_size": 1 << 24,
    "depth": 1 << 12,
}
#: Numbers that a model computes with: the least and the largest that can be meant. NaN is none.
_REALS = (
    *((key, 0.0, 1.0) for key in ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")),
    ("rope_theta", 1.0, 1e15),
    ("partial_rotary_factor", 0.0, 1.0),
)
_MAY_BE_ZERO = ("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
_PARTS = ("text_config", "vision_config", "audio_config")
REMEDY = "Copy config.json from the model that these weights were trained from"


def check_sizes(path: Path, config: dict[str, Any]) -> None:
    """Raise `IngotError` for a size in `config`, or in one of its parts, or a number, that no model can have."""
    for name, wrong in _unending(config, ""):
        raise IngotError(path, f"{name} is {wrong}, which is not a number that a model computes with", REMEDY)
    for part in ("", *_PARTS):
        settings = config.get(part, {}) if part else config
        if settings is None and part in ("vision_config", "audio_config"):
            continue  # a multimodal class without that part: Gemma 4 without its audio tower
        if not isinstance(settings, dict):
            raise IngotError(path, f"{part} is {_shown(settings)} where an object is due", REMEDY)
        for key, most in _SIZES.items():
            value = settings.get(key)
            least = 0 if key in _MAY_BE_ZERO else 1
            for number in value if isinstance(value, list) else [value]:
                if number is not None and not (type(number) is int and least <= number <= most):
                    name = f"{part}.{key}" if part else key
                    found = f"{name} is {_shown(number)} where a whole number from {least} to {most} is due"
                    raise IngotError(path, found, REMEDY)
        for key, low, high in _REALS:
            value = settings.get(key)
            if value is not None and not (type(value) in (int, float) and low <= value <= high):
                name = f"{part}.{key}" if part else key
                found = f"{name} is {_shown(value)} where a number from {low:g} to {high:g} is due"
                raise IngotError(path, found, REMEDY)


def _unending(value: object, name: str) -> Iterator[tuple[str, float]]:
    """NaN and infinity in it, by key. As an end of a range infinity is meant (Mamba's `time_step_limit`)."""
    if isinstance(value, float) and not math.isfinite(value):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _unending(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for part in value:
            if not (isinstance(part, float) and math.isinf(part)):
                yield from _unending(part, name)


#: Of a GGUF's metadata, after `ARCHITECTURE.`, what config.json calls so.
_OF_GGUF = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "rope.scaling.original_context_length": "max_position_embeddings",
}


def check_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise `IngotError` where a GGUF's metadata has a size that no model has, or that its tensors contradict.

    `tensors` by their names in Hugging Face's form, as far as they have one.
    """
    remedy = "Fetch it again, or convert the model again"
    for name, number in _unending(dict(metadata), ""):
        raise IngotError(path, f"{name} is {number}, which is not a number that a model computes with", remedy)
    kind = metadata.get("general.architecture")
    for name, key in _OF_GGUF.items():
        value = metadata.get(f"{kind}.{name}")
        if value is not None and not (type(value) is int and 1 <= value <= _SIZES[key]):
            found = f"{kind}.{name} is {_shown(value)} where a whole number from 1 to {_SIZES[key]} is due"
            raise IngotError(path, found, remedy)
    layers = metadata.get(f"{kind}.block_count")
    there = {match[1] for tensor in tensors if (match := re.search(r"(?:blk|layers)\.(\d{1,9})\.", tensor))}
    if layers is not None and layers != len(there):
        raise IngotError(path, f"{kind}.block_count is {layers}, but its tensors are of {len(there)} layers", remedy)
    embedding, tokens = tensors.get("model.embed_tokens.weight"), metadata.get("tokenizer.ggml.tokens")
    if embedding is not None and len(embedding.shape) == 2:
        rows, width = embedding.shape
        said = metadata.get(f"{kind}.embedding_length", width)
        if said != width:
            raise IngotError(path, f"{kind}.embedding_length is {said}, but its embedding is {width} wide", remedy)
        if isinstance(tokens, int) and tokens > rows:
            raise IngotError(path, f"holds {tokens} tokens, but its embedding has {rows} rows", remedy)


def config_of_gguf(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that a GGUF's metadata tells, by the names that config.json has for them."""
    kind = metadata.get("general.architecture")
    found = {key: metadata.get(f"{kind}.{name}") for name, key in _OF_GGUF.items()}
    return {key: value for key, value in found.items() if value is not None}


def check_layers(path: Path, config: dict[str, Any], names: Iterable[str]) -> None:
    """Raise `IngotError` where `config` promises more layers than any tensor's name counts."""
    counted = 1 + max((int(number[:9]) for name in names for number in re.findall(r"\.(\d+)\.", name)), default=-1)
    for part in ("", "text_config"):
        said = (config.get(part) or {} if part else config).get("num_hidden_layers")
        if isinstance(said, int) and said > counted:
            name = f"{part}.num_hidden_layers" if part else "num_hidden_layers"
            raise IngotError(path, f"{name} is {said}, but the weights hold {counted} layers", REMEDY)


def text_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that describes the language model."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"

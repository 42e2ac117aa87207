"""Models out of GGUF files: loaded by transformers, and what it drops on the way put back or refused.

Transformers 5.23 reads weights, sizes and tokenizer. It does not read how the rotary positions are scaled: neither the
metadata `ARCH.rope.scaling.*` nor the tensor `rope_freqs.weight`, in which llama.cpp's converter stores Llama 3.1's
scaling as one divisor a frequency. Without them a model goes wrong with distance, and nothing says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from scripts.checkpoint.load import be_quiet, forget_quantizer, load
from scripts.checkpoint.truth import find_class
from scripts.checkpoint.weights import Checkpoint
from scripts.common.errors import IngotError
from scripts.common.watch import computing
from scripts.results.remarks import Remark

FREQUENCIES = "rope_freqs.weight"
_COMPUTED = ("rope_freqs", "attn_rot_embd")
_FLOAT = "Name the checkpoint that the GGUF was made of, as a folder"
#: What of `rope.scaling.*` is understood here, by its last word.
_UNDERSTOOD = {"type", "factor", "original_context_length", "finetuned"}


def describe(checkpoint: Checkpoint) -> tuple[Any, list[Remark]]:
    """The model on the `meta` device, where it has no numbers, and what there is to say about it.

    Raises `IngotError` where the file does not make up the model of its metadata; only its header is read for that.
    """
    be_quiet()
    import torch

    kind = find_class(checkpoint.path, checkpoint.architecture)
    path = checkpoint.path.resolve()
    try:
        config = kind.config_class.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        with torch.device("meta"):
            model = kind(config)
    except Exception as error:  # noqa: BLE001 - whatever a class raises at numbers that it can't be built from
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise IngotError(checkpoint.path, f"transformers can't build a model from it ({reason})", _FLOAT) from None
    model.tie_weights()
    _refuse_leftovers(checkpoint, model)
    return model, _scale_positions(checkpoint, model)


def load_model(checkpoint: Checkpoint, described: Any) -> Any:
    """The model in float32, its weights de-quantised; `described` has the config that it gets."""
    import torch

    path = checkpoint.path.resolve()
    model = load(type(described), path.parent, gguf_file=path.name, dtype=torch.float32)
    forget_quantizer(model)
    _refuse_leftovers(checkpoint, model)
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise IngotError(checkpoint.path, f"{name} holds a number that is not finite (NaN or infinity)", _FLOAT)
    model.config.rope_parameters = described.config.rope_parameters
    return model


@contextmanager
def parsed_once() -> Iterator[None]:
    """Remember what the gguf package answers while model and tokenizer are loaded out of one file.

    Transformers 5.23 parses the whole header once for the config, once for the weights and once for the tokenizer, and
    draws up the same table of tensor names for every module: 12 s of the 27 that a model of 135M takes.
    """
    import gguf

    pure = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in pure.items():
        setattr(gguf, name, cache(function))
    try:
        yield
    finally:
        for name, function in pure.items():
            setattr(gguf, name, function)


def load_tokenizer(path: Path, context: int | None) -> Any:
    """The tokenizer inside a GGUF file, with its special tokens and chat template.

    Transformers 5.23 gives up what `tokenizer.ggml.pre` says on splitting digits before runs of blanks. That is left
    so: genai 0.18's tokenizer does not know that split either, and training, judging and serving must agree.
    """
    be_quiet()
    from transformers import AutoTokenizer

    path = path.resolve()
    with computing(path, "to make a tokenizer of it", seconds=60, memory=1 << 30, remedy=_FLOAT):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    if context:
        tokenizer.model_max_length = context
    for key in ("is_local", "local_files_only", "name_or_path"):  # how it was loaded is not part of it
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def _refuse_leftovers(checkpoint: Checkpoint, model: Any) -> None:
    """Transformers passes over tensors whose names it does not know; then the model has fewer numbers than the file."""
    given = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(_COMPUTED)}
    given = {name: tensor for name, tensor in given.items() if not any(part in name for part in _COMPUTED)}
    held, taken = sum(tensor.elements for tensor in given.values()), sum(p.numel() for p in model.parameters())
    if held != taken:
        shapes = {tuple(value.shape) for value in model.parameters()}
        odd = [name for name, tensor in given.items() if tensor.shape not in shapes]
        suspect = f" ({odd[0]} is of a shape that no parameter has)" if odd else ""
        found = f"holds {held} numbers, but {type(model).__name__} takes {taken} of it{suspect}"
        raise IngotError(checkpoint.path, found, _FLOAT)


def _scale_positions(checkpoint: Checkpoint, model: Any) -> list[Remark]:
    """Give the model's config the scaling of rotary positions that the GGUF holds."""
    architecture = checkpoint.metadata.get("general.architecture")
    start = f"{architecture}.rope.scaling."
    said = {key.removeprefix(start): value for key, value in checkpoint.metadata.items() if key.startswith(start)}
    if f"{architecture}.rope.scale_linear" in checkpoint.metadata:
        said |= {"type": "linear", "factor": checkpoint.metadata[f"{architecture}.rope.scale_linear"]}
    theta = float((model.config.rope_parameters or {}).get("rope_theta", 10000.0))
    scaling: dict[str, Any] | None = None
    if FREQUENCIES in checkpoint.tensors:
        scaling = _llama3(checkpoint, model, theta)
    elif str(said.get("type", "none")) != "none" and float(said.get("factor", 1)) != 1:
        scaling = _said(checkpoint, model, said)
    elif any("rope_factors" in name for name in checkpoint.tensors):
        raise IngotError(checkpoint.path, "holds rope_factors_long (LongRoPE), which is not read from a GGUF", _FLOAT)
    if scaling is None:
        return []
    if any(isinstance(value, dict) for value in (model.config.rope_parameters or {}).values()):
        found = f"scales its positions ({scaling['rope_type']}) in a model whose layers have different ones"
        raise IngotError(checkpoint.path, found, _FLOAT)
    model.config.rope_parameters = {**scaling, "rope_theta": theta}
    listed = ", ".join(f"{key} {value}" for key, value in scaling.items())
    return [Remark(checkpoint.path.name, f"its scaling of positions is kept, which transformers leaves out: {listed}")]


def _said(checkpoint: Checkpoint, model: Any, said: dict[str, Any]) -> dict[str, Any]:
    kind, factor = str(said["type"]), float(said["factor"])
    strange = sorted(set(said) - _UNDERSTOOD)
    if kind not in ("linear", "yarn") or strange or not (math.isfinite(factor) and factor > 0):
        found = f"rope.scaling.{strange[0] if strange else 'type'} ({said.get(strange[0]) if strange else kind})"
        raise IngotError(checkpoint.path, f"{found} is a scaling of positions that is not read from a GGUF", _FLOAT)
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    original = int(said.get("original_context_length") or model.config.max_position_embeddings / factor)
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}


def _llama3(checkpoint: Checkpoint, model: Any, theta: float) -> dict[str, Any] | None:
    """Llama 3's scaling of which the divisors in the file are the result; None where they are all one."""
    import gguf

    reader = gguf.GGUFReader(checkpoint.path.resolve())
    found = [float(value) for tensor in reader.tensors if tensor.name == FREQUENCIES for value in tensor.data.flatten()]
    if all(value == 1 for value in found):
        return None
    head = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    factor = max(found)
    originals = {1 << power for power in range(6, 21)} | {round(model.config.max_position_embeddings / factor)}
    for original in sorted(originals, reverse=True):
        if len(found) == head // 2 and _agree(found, divisors(head, theta, factor, original)):
            return {
                "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            }  # fmt: skip
    raise IngotError(checkpoint.path, f"{FREQUENCIES} holds a scaling of positions other than Llama 3's", _FLOAT)


def divisors(head: int, theta: float, factor: float, original: int, low: float = 1.0, high: float = 4.0) -> list[float]:
    """What each rotary frequency is divided by under Llama 3's scaling."""
    result = []
    for index in range(0, head, 2):
        turns = original / (2 * math.pi * theta ** (index / head))  # within the original context
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        result.append(1 / ((1 - smooth) / factor + smooth))
    return result


def _agree(some: Sequence[float], others: Sequence[float]) -> bool:
    return all(math.isclose(one, other, rel_tol=1e-4) for one, other in zip(some, others, strict=True))

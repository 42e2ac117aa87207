"""What can be known about weights before anything heavy is imported; each check takes milliseconds.

A wrong folder, a truncated shard or an adapter of another model would otherwise surface minutes later, as a message
of some library about something else. `check_source` and `check_adapter` read JSON and the headers of weights files;
`estimate` and `check_room` say whether the machine is large enough.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from scripts.checkpoint import templates, vocabulary
from scripts.checkpoint.adapters import Adapter, check_adapter
from scripts.checkpoint.plausible import config_of_gguf
from scripts.checkpoint.weights import Checkpoint, check_source
from scripts.common import context_limit, kv_cache
from scripts.common.errors import IngotError
from scripts.definitions import sizes
from scripts.families import supported

__all__ = [
    "Checkpoint",
    "Estimate",
    "check_adapter",
    "check_context",
    "check_exporter",
    "check_memory",
    "check_room",
    "check_source",
    "check_template",
    "estimate",
    "key_value_bytes",
    "served_context",
]

#: Where a GGUF has its chat template.
_GGUF_TEMPLATE = "tokenizer.chat_template"
_LIBRARIES = 2**30
#: Bytes a parameter of the float export and one precision in 4 bits.
_LEAST_MADE = sizes.EXPORT + sizes.of_bits(4)


@dataclass(frozen=True)
class Estimate:
    """What a build will need at its peak, in bytes: on the disk, in memory to make it, and to serve what was made."""

    disk_bytes: int
    memory_bytes: int
    serving_bytes: int
    serves_float: bool
    #: Of `serving_bytes`, what each token of the context takes; and how long the context is.
    token_bytes: int = 0
    context: int = 0
    #: What a single precision in 4 bits would take of the disk.
    least_disk_bytes: int = 0
    #: What would be served without anything in float32.
    quantised_bytes: int = 0


def check_context(checkpoint: Checkpoint, asked: int | None, max_length: float | None) -> None:
    """Raise `IngotError` where the model was not made for so many tokens, as far as its config tells."""
    most = _most_tokens(checkpoint)
    if isinstance(most, int):
        context_limit.choose(asked, {} if max_length is None else {"max_length": max_length}, most)


def _most_tokens(checkpoint: Checkpoint) -> int | None:
    kind = checkpoint.metadata.get("general.architecture")
    return context_limit.most(checkpoint.config) or checkpoint.metadata.get(f"{kind}.context_length")


def check_exporter(checkpoint: Checkpoint, asked: str | None) -> None:
    """Raise `IngotError` where the exporter that is `asked` for, else the first that can, cannot make the model, as far
    as its config and the shapes of its tensors tell.
    """
    config = checkpoint.config or {"architectures": [checkpoint.architecture]}  # a GGUF has none
    if supported.exporter(checkpoint.path, config, asked) == "builder":
        _check_widths(checkpoint, config)


def _check_widths(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Builder 0.18 takes every linear layer with as many outputs as there are tokens for the output head."""
    rows = vocabulary.rows_of(checkpoint.tensors)
    for name, tensor in checkpoint.tensors.items():
        if re.search(r"\.\d+\.", name) and len(tensor.shape) == 2 and tensor.shape[0] == rows:
            found = f"{name} has as many outputs as the vocabulary, {rows}: the builder would mistake it"
            remedy = "Pad the vocabulary: model.resize_token_embeddings(…)"
            if supported.makes("mobius", config):
                remedy = f'Set exporter = "mobius", which does not. Or p{remedy[1:]}'
            raise IngotError(checkpoint.path, found, remedy)


def check_template(checkpoint: Checkpoint, adapters: Sequence[Adapter], wanted: str | None) -> None:
    """Raise `IngotError` where there is no chat template, no saying which, or it is not one. `wanted`: file or name."""
    folders = [adapter.folder for adapter in adapters]
    if checkpoint.path.is_file() and wanted is None and not any(map(templates.read, folders)):
        if not checkpoint.metadata.get(_GGUF_TEMPLATE):
            templates.refuse_none(checkpoint.path)
        return
    place = checkpoint.tokenizer
    if checkpoint.path.is_file() and (wanted is None or not Path(wanted).is_file()):
        return  # templates of a GGUF by their names are known once it is read
    found = templates.choose(place, folders, wanted, files=place, label=checkpoint.path)
    templates.check_syntax(Path(wanted) if wanted and Path(wanted).is_file() else checkpoint.path, found.text)


def key_value_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of keys and values that a token of the context takes where a model is served; 0 where that is not told."""
    return kv_cache.bytes_per_token(checkpoint.config or config_of_gguf(checkpoint.metadata)) or 0


def served_context(checkpoint: Checkpoint, context: int) -> int:
    """The tokens that a package will have whose `context` is asked for."""
    return min(context, _most_tokens(checkpoint) or context)


def estimate(
    parameters: int, largest: int, *, rewritten: bool, makes: float = 0, serves_float: bool = False,
    token_bytes: int = 0, context: int = 0,
) -> Estimate:  # fmt: skip
    """What a model of `parameters`, its largest tensor of `largest`, needs: the checkpoint alone, or all that is made
    of it too, in `makes` bytes a parameter; with `serves_float` something of it is served that computes with float32
    weights. `token_bytes`: keys and values of one token, of `context` tokens.

    Disk: 4 bytes a parameter for a checkpoint that is written (`rewritten`: merged or out of GGUF, in float32), and
    as much while it is made; an export or a precision takes its disk once, also while it is made.
    Memory: 1 GiB for interpreter and libraries; each stage holds a few matrices of the model at a time, whatever it
    weighs (tests/benchmarks/growth.py). What is served holds all of it, and keys and values for its whole context.
    """
    disk = 8 * parameters if rewritten else 0
    matrices = 3 * 4 * largest if rewritten or makes else 0
    disk += int(makes * parameters)
    cache = token_bytes * context if makes else 0
    shares = (sizes.SERVED_IN_FLOAT, sizes.SERVED_QUANTISED) if makes else (0.0, 0.0)
    in_float, quantised = (int(_LIBRARIES + share * parameters + cache) for share in shares)
    served = in_float if serves_float else quantised
    least = disk - int((makes - min(makes, _LEAST_MADE)) * parameters)
    return Estimate(
        disk + 2**26, _LIBRARIES + matrices, served, serves_float, token_bytes, context, least + 2**26, quantised
    )


def check_room(need: Estimate, folder: Path, *, disk: int | None = None, memory: int | None = None) -> None:
    """Raise `IngotError` if `folder`'s disk or this machine's memory has less than `need`.

    `disk` and `memory` stand for the free bytes, asked of the system where not given.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free if disk is None else disk
    if free < need.disk_bytes:
        found = f"{_gib(free)} of disk free, about {_gib(need.disk_bytes)} needed"
        remedy = "Free some space or build on another disk (`doit build=FOLDER`)"
        if need.least_disk_bytes <= free:
            remedy += f"; or ask for int4 alone, without cases for the base: about {_gib(need.least_disk_bytes)}"
        remedy += "; keep_export = false in models that are built gives back 4 bytes a parameter of each"
        raise IngotError(folder, found, remedy)
    check_memory(need, memory)


def check_memory(need: Estimate, memory: int | None = None) -> None:
    """Raise `IngotError` if this machine's memory has less than `need`; `memory` stands for the free bytes."""
    free = psutil.virtual_memory().available if memory is None else memory
    if free < need.memory_bytes:
        found = f"{_gib(free)} free, about {_gib(need.memory_bytes)} needed for a model of this size"
        raise IngotError("memory", found, "Close other programs or build on a larger machine")
    if free < need.serving_bytes:
        found = f"{_gib(free)} free, about {_gib(need.serving_bytes)} needed to serve a model of this size"
        if cache := need.token_bytes * need.context:
            found += f", {_gib(cache)} of that for the keys and values of {need.context} tokens"
        remedy = "; or ".join(["Close other programs or build on a larger machine", *_smaller(need, free)])
        raise IngotError("memory", found, remedy)


def _smaller(need: Estimate, free: int) -> Iterator[str]:
    """What could be asked for instead, and would fit."""
    if need.token_bytes:
        tokens = min(need.context, (free - need.serving_bytes) // need.token_bytes + need.context) // 256 * 256
        if tokens > 0:
            yield f"set context_length = {tokens} or less"
    if need.serves_float and need.quantised_bytes <= free:
        yield f"ask for int4 or int8 alone, with which nothing is served in float32: about {_gib(need.quantised_bytes)}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"

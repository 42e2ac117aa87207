"""What can be known about weights before anything heavy is imported; each check takes milliseconds.

A wrong folder, a truncated shard or an adapter of another model would otherwise surface minutes later, as a message
of some library about something else. `check_source` and `check_adapter` read JSON and the headers of weights files;
`estimate` and `check_room` say whether the machine is large enough.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from scripts.checkpoint import templates, vocabulary
from scripts.checkpoint.adapters import Adapter, check_adapter
from scripts.checkpoint.weights import Checkpoint, check_source
from scripts.common import context_limit
from scripts.common.errors import IngotError
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
]

#: Where a GGUF has its chat template.
_GGUF_TEMPLATE = "tokenizer.chat_template"
_LIBRARIES = 2**30
#: Bytes a parameter of what serves: float32 weights, packed for the processor; 8 bits with scales and some float32.
_FLOAT_SERVED, _QUANTISED_SERVED = 4.2, 1.6


@dataclass(frozen=True)
class Estimate:
    """What a build will need at its peak, in bytes: on the disk, in memory to make it, and to serve what was made."""

    disk_bytes: int
    memory_bytes: int
    serving_bytes: int
    serves_float: bool


def check_context(checkpoint: Checkpoint, asked: int | None, max_length: float | None) -> None:
    """Raise `IngotError` where the model was not made for so many tokens, as far as its config tells."""
    kind = checkpoint.metadata.get("general.architecture")
    most = context_limit.most(checkpoint.config) or checkpoint.metadata.get(f"{kind}.context_length")
    if isinstance(most, int):
        context_limit.choose(asked, {} if max_length is None else {"max_length": max_length}, most)


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


def estimate(
    parameters: int, largest: int, *, rewritten: bool, precisions: int = 0, serves_float: bool = False
) -> Estimate:
    """What a model of `parameters`, its largest tensor of `largest`, needs: the checkpoint alone, or its export and
    `precisions` outputs too; with `serves_float` something of it is served that computes with float32 weights.

    Disk: 4 bytes a parameter for a checkpoint that is written (`rewritten`: merged or out of GGUF, in float32), and
    as much while it is made; 4.2 for the float export, 2.1 for each precision (the widest is fp16).
    Memory: 1 GiB for interpreter and libraries; each stage holds a few matrices of the model at a time, whatever it
    weighs (tests/benchmarks/growth.py). What is served holds all of it.
    """
    disk = 8 * parameters if rewritten else 0
    matrices = 3 * 4 * largest if rewritten or precisions else 0
    if precisions:
        disk += int((4.2 + 2.1 * precisions) * parameters)
    served = (_FLOAT_SERVED if serves_float else _QUANTISED_SERVED) * parameters if precisions else 0
    return Estimate(disk + 2**26, _LIBRARIES + matrices, int(_LIBRARIES + served), serves_float)


def check_room(need: Estimate, folder: Path, *, disk: int | None = None, memory: int | None = None) -> None:
    """Raise `IngotError` if `folder`'s disk or this machine's memory has less than `need`.

    `disk` and `memory` stand for the free bytes, asked of the system where not given.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free if disk is None else disk
    if free < need.disk_bytes:
        found = f"{_gib(free)} of disk free, about {_gib(need.disk_bytes)} needed"
        raise IngotError(folder, found, "Free some space or build on another disk (`doit build=FOLDER`)")
    check_memory(need, memory)


def check_memory(need: Estimate, memory: int | None = None) -> None:
    """Raise `IngotError` if this machine's memory has less than `need`; `memory` stands for the free bytes."""
    free = psutil.virtual_memory().available if memory is None else memory
    if free < need.memory_bytes:
        found = f"{_gib(free)} free, about {_gib(need.memory_bytes)} needed for a model of this size"
        raise IngotError("memory", found, "Close other programs or build on a larger machine")
    if free < need.serving_bytes:
        found = f"{_gib(free)} free, about {_gib(need.serving_bytes)} needed to serve a model of this size"
        smaller = "; without evaluation.cases and fp16 nothing is served in float32" if need.serves_float else ""
        raise IngotError("memory", found, f"Close other programs or build on a larger machine{smaller}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"

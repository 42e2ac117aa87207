"""How long a step may take and how much memory it may use: generous, so that only what hangs or eats is ended.

They are in no key: to change one builds nothing again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from scripts.common import kv_cache
from scripts.common.machine import usable_memory
from scripts.common.model_files import QUANTISED
from scripts.common.typed import given

_GIB = 1 << 30
#: Minutes for any model, and for each GiB of its weights (16-bit). On 2 cores a model of 135 million parameters, 0.25
#: GiB, is exported in 25 s and calibrated in 90 s: a machine ten times as slow and busy is given room.
_MINUTES = {
    "checkpoint": (60, 30),  # it may fetch them
    "finetune": (720, 720),
    "reference": (60, 120),
    "export": (30, 60),
    "quantize": (60, 240),
    "quality": (60, 120),
    "package": (30, 15),
    "attest": (30, 15),
    "sign": (30, 15),
    "device": (240, 1440),
    "domain": (240, 240),
    "baseline": (240, 240),
    "lm-eval": (1440, 1440),
    "bench": (60, 60),
    "bench-full": (240, 240),
    "soak": (240, 240),
    "recommend": (10, 0),
    "deploy": (30, 15),
    "reconcile": (30, 0),
    "verify": (30, 30),
    "edges": (240, 120),
    "report": (60, 0),
}
_OTHERS = (240, 240)
#: The tasks that load a model to be asked.
_SERVING = ("domain", "baseline", "lm-eval", "bench", "bench-full", "soak", "verify", "edges")
#: Of a source that is not on this disk yet: as large as any that is built on one machine.
_UNKNOWN = 16 * _GIB
#: Besides the weights, in whichever form; those are served in float32 at most, which is twice 16 bits.
_LIBRARIES = _GIB
#: Bytes of a safetensors header at most.
_HEADER = 100 << 20
#: What weights of 4 bits would be with 16.
_GGUF = 4

Minutes = Annotated[float, Meta(gt=0, le=1e6, title="a number of minutes above 0")]
Gibibytes = Annotated[float, Meta(gt=0, le=1e6, title="a number of GiB above 0")]


class Limit(Struct, forbid_unknown_fields=True, frozen=True):
    """For one step."""

    minutes: Annotated[Minutes | None, Meta(description="how long it may take")] = None
    memory_gib: Annotated[Gibibytes | None, Meta(description="how much memory it may use")] = None


class Limits(Limit, forbid_unknown_fields=True, frozen=True, rename={"lm_eval": "lm-eval", "bench_full": "bench-full"}):
    """For every step, and for single ones, which come first."""

    checkpoint: Limit = Limit()
    finetune: Limit = Limit()
    reference: Limit = Limit()
    export: Limit = Limit()
    quantize: Limit = Limit()
    quality: Limit = Limit()
    package: Limit = Limit()
    attest: Limit = Limit()
    sign: Limit = Limit()
    device: Limit = Limit()
    domain: Limit = Limit()
    baseline: Limit = Limit()
    lm_eval: Limit = Limit()
    bench: Limit = Limit()
    bench_full: Limit = Limit()
    soak: Limit = Limit()
    recommend: Limit = Limit()
    deploy: Limit = Limit()
    verify: Limit = Limit()
    edges: Limit = Limit()
    reconcile: Limit = Limit()
    report: Limit = Limit()


class Allowed(NamedTuple):
    """What one step may use, and the memory that it will probably take; None where that is not known."""

    seconds: float
    memory_bytes: int
    setting: str
    likely_bytes: int | None


def allowed(
    task: str, layers: Sequence[Limits], weights: int | None, *, cache: int = 0, in_float: bool = True
) -> Allowed:
    """The limits of `task` (`export`), for a model whose weights take so many bytes; None: it is not known yet.

    `cache`: bytes of keys and values for its whole context, which what serves sets aside; `in_float`: whether what is
    served computes with float32 weights. `layers` are what the user says, the nearest first: of the model, then of all.
    """
    said = [limit for limits in layers for limit in (given(limits).get(task), limits) if limit is not None]
    minutes = next((limit.minutes for limit in said if limit.minutes is not None), None)
    memory = next((limit.memory_gib for limit in said if limit.memory_gib is not None), None)
    if minutes is None:
        base, per_gib = _MINUTES.get(task, _OTHERS)
        minutes = base + per_gib * (_UNKNOWN if weights is None else weights) / _GIB
    memory_bytes = usable_memory() if memory is None else int(memory * _GIB)
    likely = None
    if weights is not None:
        serves = task in _SERVING
        likely = _LIBRARIES + int((2.1 if in_float or not serves else 0.8) * weights) + (cache if serves else 0)
    return Allowed(minutes * 60, memory_bytes, f"limits.{task} in models.toml", likely)


def weights_size(path: Path) -> int | None:
    """Bytes that the weights in a folder, or a GGUF file, take with 16 bits each; None where that can't be told."""
    try:
        if path.is_file():
            return path.stat().st_size * _GGUF
        with os.scandir(path) as entries:
            sizes = {entry.path: entry.stat().st_size for entry in entries if entry.name.endswith(".safetensors")}
        size = sum(sizes.values())
        if size > _GIB and _is_float32(max(sizes, key=lambda file: sizes[file])):
            size //= 2
        return size * (_GGUF if _is_quantised(path) else 1) or None
    except OSError:
        return None


def key_value_bytes(path: Path, context: int) -> int:
    """Bytes of keys and values for `context` tokens of the model in a folder; 0 where that can't be told."""
    try:
        config = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):  # what is wrong with it is the checkpoint stage's to tell
        return 0
    return (kv_cache.bytes_per_token(config) or 0) * context if isinstance(config, dict) else 0


def _is_float32(file: str) -> bool:
    """Whether most of a safetensors file is float32, by its header; what is wrong with that is not told here."""
    bytes_of: dict[str, int] = {}
    try:
        with Path(file).open("rb") as weights:
            size = int.from_bytes(weights.read(8), "little")
            header = json.loads(weights.read(size)) if size <= _HEADER else {}
        for tensor in header.values():
            if "dtype" in tensor:
                begin, end = tensor["data_offsets"]
                bytes_of[tensor["dtype"]] = bytes_of.get(tensor["dtype"], 0) + end - begin
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return 2 * bytes_of.get("F32", 0) > sum(bytes_of.values())


def _is_quantised(folder: Path) -> bool:
    """Whether a folder says that its weights are quantised; that they are is the checkpoint stage's to find out."""
    if any((folder / name).is_file() for name in QUANTISED):
        return True
    config = folder / "config.json"
    return config.is_file() and b'"quantization_config"' in config.read_bytes()[: 1 << 20]

"""Under what conditions something was measured: the graph, the tools, the machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from scripts.common import genai_config
from scripts.common.errors import IngotError
from scripts.common.genai_config import key_value_bytes, providers
from scripts.common.machine import fingerprint
from scripts.common.manifest import NOT_CONTENT
from scripts.common.model_files import is_card_file
from scripts.runtime.foundry import LARGE_BLOCK, label

_TOOLS = ("foundry-local-sdk", "onnxruntime", "onnxruntime-genai")
_ALLOCATOR = ("MALLOC_", "LD_PRELOAD", "OMP_", "ORT_")  # variables that change what memory or threads cost
#: Per cent of all cores that others may use while we measure, before we call the machine busy.
BUSY = 10.0


def of_package(package: Path) -> dict[str, Any]:
    """What of a package decides how fast it is; raises `IngotError` if its settings cannot be read."""
    genai = genai_config.read(package)
    try:
        decoder = genai["model"]["decoder"]
        graph = package / decoder["filename"]
        session = decoder.get("session_options", {})
        context = int(genai["model"]["context_length"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"lacks what is measured by ({type(error).__name__}: {error})"
        raise IngotError(package / genai_config.NAME, found, "Build the package again") from None
    weights = of_graph(graph)
    return {
        "runtime": label(),
        "tools": {name: version(name) for name in _TOOLS},
        "execution_provider": next(iter(providers(genai)), "CPUExecutionProvider"),
        "threads": threads(session),
        "threads_by": "the package" if session.get("intra_op_num_threads") else "the runtime's default",
        "context_length": context,
        "max_length": genai["search"].get("max_length"),
        "key_value_buffer_bytes": key_value_bytes(genai, package),
        "session_options": session,
        "search_options": genai["search"],
        "malloc_mmap_threshold_bytes": LARGE_BLOCK if sys.platform == "linux" else None,
        "size_bytes": sum(path.stat().st_size for path in package.rglob("*") if path.is_file() and _is_served(path)),
        **weights,
    }


def _is_served(path: Path) -> bool:
    """Whether a file of a package is there to be computed with: the others are no reason to measure again."""
    return not is_card_file(path.name) and path.name not in NOT_CONTENT


def threads(session: Mapping[str, Any]) -> int:
    """Threads that compute, by a package's session options.

    Of a package that names none, onnxruntime-genai 0.18 takes half the logical cores, at most 16, without asking
    whether two of them share a physical one; 0 leaves the choice to onnxruntime: one a physical core.
    """
    asked = session.get("intra_op_num_threads")
    logical = os.cpu_count() or 1
    if asked is None:
        return min(max(1, logical // 2), 16)
    return int(asked) or psutil.cpu_count(logical=False) or logical


def of_graph(path: Path) -> dict[str, Any]:
    """How a graph stores its weights and what it computes in.

    `weights` names the two where they differ, since a CPU that is given fp16 weights gains room, not speed.
    """
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.startswith("google."):
            raise IngotError(path, f"is not an ONNX graph: {error}", "Build the package again") from None
        raise
    stored: Counter[int] = Counter()
    for tensor in graph.initializer:
        count = 1
        for size in tensor.dims:
            count *= size
        stored[tensor.data_type] += count
    quantised = Counter(_attributes(node) for node in graph.node if node.op_type == "MatMulNBits")
    if quantised:
        (bits, block, level), _ = quantised.most_common(1)[0]
        weights = f"{bits}-bit in blocks of {block}"
        return {"weights": weights, "bits": bits, "block_size": block, "accuracy_level": level}
    kind = onnx.TensorProto.DataType.Name(stored.most_common(1)[0][0]).lower() if stored else "float"
    name = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}.get(kind, kind)
    cast = any(
        node.op_type == "Cast" and any(a.name == "to" and a.i == onnx.TensorProto.FLOAT for a in node.attribute)
        for node in graph.node
    )
    return {"weights": "stored as fp16, computes in fp32" if name == "fp16" and cast else name}


def _attributes(node: Any) -> tuple[int, int, int]:
    values = {attribute.name: attribute.i for attribute in node.attribute}
    return values.get("bits", 4), values.get("block_size", 0), values.get("accuracy_level", 0)


def of_machine() -> dict[str, Any]:
    """The machine, as `scripts.common.machine` knows it, with its physical cores and memory in bytes."""
    return {
        "machine": {
            **fingerprint(),
            "physical_cores": psutil.cpu_count(logical=False) or os.cpu_count(),
            "ram_bytes": psutil.virtual_memory().total,
            "python": platform.python_version(),
        }
    }


class Neighbours:
    """What else the machine did while we measured; made at the start, asked once its children have ended."""

    def __init__(self) -> None:
        self._begin, self._load = time.monotonic(), _load_average()
        self._all, self._own = _busy_seconds(), _own_seconds()

    def conditions(self) -> dict[str, Any]:
        """Load averages before and after, and the share of all cores that other processes used meanwhile."""
        cores = os.cpu_count() or 1
        seconds = (time.monotonic() - self._begin) * cores
        others = _busy_seconds() - self._all - (_own_seconds() - self._own)
        percent = round(max(0.0, 100 * others / seconds), 1) if os.name == "posix" else None
        return {
            "load_average_before": self._load,
            "load_average_after": _load_average(),
            "other_processes_cpu_percent": percent,
            "machine_was_busy": None if percent is None else percent > BUSY,
            "environment": {key: value for key, value in sorted(os.environ.items()) if key.startswith(_ALLOCATOR)},
        }


def _load_average() -> list[float]:
    return [round(value, 2) for value in psutil.getloadavg()]


def _busy_seconds() -> float:
    """Seconds that all cores together have not idled."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(times, name, 0.0)) for name in names)


def _own_seconds() -> float:
    """CPU seconds of this process and of those of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system

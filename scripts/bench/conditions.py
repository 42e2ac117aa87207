"""Under what conditions something was measured: the graph, the tools, the machine."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from scripts.engine.errors import IngotError
from scripts.engine.machine import fingerprint
from scripts.foundry.runtime import label

_TOOLS = ("foundry-local-sdk", "onnxruntime", "onnxruntime-genai")


def of_package(package: Path) -> dict[str, Any]:
    """What of a package decides how fast it is; raises `IngotError` if its settings cannot be read."""
    settings = package / "genai_config.json"
    try:
        model = json.loads(settings.read_text(encoding="utf-8"))["model"]
        decoder = model["decoder"]
        graph = package / decoder["filename"]
        session = decoder.get("session_options", {})
        context = int(model["context_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IngotError(
            settings, f"cannot be read ({type(error).__name__}: {error})", "Build the package again"
        ) from None
    providers = [name for entry in session.get("provider_options", []) for name in entry]
    return {
        "runtime": label(),
        "tools": {name: version(name) for name in _TOOLS},
        "execution_provider": providers[0] if providers else "CPUExecutionProvider",
        "threads": session.get("intra_op_num_threads") or "onnxruntime's default: one a physical core",
        "context_length": context,
        "size_bytes": sum(path.stat().st_size for path in package.rglob("*") if path.is_file()),
        **of_graph(graph),
    }


def of_graph(path: Path) -> dict[str, Any]:
    """How a graph stores its weights and what it computes in.

    `weights` names the two where they differ, since a CPU that is given fp16 weights gains room, not speed.
    """
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.startswith("google."):
            raise IngotError(path, f"is no ONNX graph: {error}", "Build the package again") from None
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
    """The machine, as `scripts.engine.machine` knows it, with its physical cores and memory in bytes."""
    return {
        "machine": {
            **fingerprint(),
            "physical_cores": psutil.cpu_count(logical=False) or os.cpu_count(),
            "ram_bytes": psutil.virtual_memory().total,
            "python": platform.python_version(),
        }
    }

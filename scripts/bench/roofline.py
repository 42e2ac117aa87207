"""How near decoding comes to what memory allows: bytes that a token reads against the bytes a second that can be read.

Every weight that is multiplied is read once a token, so that tokens a second ≤ bytes a second / bytes a token (the
roofline model of Williams, Waterman and Patterson, where arithmetic is free).
"""

from __future__ import annotations

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

from scripts.common import genai_config, machine

#: What is read to measure, at least, and in caches of the processor; and so often, of which the fastest counts.
_LEAST, _CACHES, _TIMES = 1 << 28, 4, 8
#: Operators that read some rows of a table.
_LOOKUPS = ("Gather", "GatherBlockQuantized", "RotaryEmbedding", "GroupQueryAttention")
#: Operators on a weight that are computed once, when a model is loaded.
_FOLDED = ("Cast", "Transpose", "Reshape", "Identity", "DequantizeLinear")


def bytes_to_read() -> int:
    """Bytes so many that the processor's caches hold a small part of them, as far as memory allows."""
    return min(max(_LEAST, _CACHES * machine.cache_bytes()), machine.usable_memory() // 4)


def read_bandwidth(threads: int) -> float:
    """Bytes a second that `threads` threads read from memory together, in order: the read alone of STREAM."""
    import numpy as np

    parts = np.array_split(np.empty(bytes_to_read() // 4, dtype=np.int32), threads)

    def write(number: int) -> None:
        parts[number].fill(1)  # pages that were never written are all the same one

    def read(number: int) -> Any:
        return parts[number].max()  # numpy's widest vectors, without the interpreter's lock

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(threads)))  # together: the system takes a second to clear as many pages
        for _ in range(_TIMES):
            begin = time.perf_counter()
            list(pool.map(read, range(threads)))
            best = min(best, time.perf_counter() - begin)
    return sum(part.nbytes for part in parts) / best


def bytes_per_token(package: Path, position: float) -> int:
    """Bytes that one token reads, on a CPU, on average at `position`: weights that are multiplied, keys and values."""
    settings = genai_config.read(package)
    cache = genai_config.key_value_bytes(settings, package) or 0
    weights = read_weights(package / settings["model"]["decoder"]["filename"])
    return weights + int(cache / settings["model"]["context_length"] * position)


def read_weights(graph: Path) -> int:
    """Bytes of the weights in `graph` that every token reads: not of tables of which it reads a row. A weight that is
    converted when the model is loaded counts as what it becomes.
    """
    import onnx

    model = onnx.load(str(graph), load_external_data=False).graph
    consumers = defaultdict(list)
    for node in model.node:
        for name in node.input:
            consumers[name].append(node)

    def width(name: str, stored: float) -> float:
        """Bytes of a value as it is read; 0 where no operator reads all of it."""
        found = 0.0
        for node in consumers[name]:
            if node.op_type in _FOLDED:
                to = next((item.i for item in node.attribute if item.name == "to"), None)
                found = max(found, *(width(made, _bits(to) / 8 if to else stored) for made in node.output))
            elif node.op_type not in _LOOKUPS:
                found = max(found, stored)
        return found

    total = 0.0
    for tensor in model.initializer:
        total += prod(tensor.dims) * width(tensor.name, _bits(tensor.data_type) / 8)
    return round(total)


def _bits(kind: int) -> int:
    """Bits of one element of ONNX's type `kind`."""
    import onnx

    return (
        4
        if kind in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
        else 8 * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
    )

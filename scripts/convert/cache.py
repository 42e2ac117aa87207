"""Keys and values in 8 bits: a quarter of the memory that the cache takes in float32, and of what a long context reads.

ONNX Runtime's GroupQueryAttention (1.31) takes such a cache on the CPU, with a scale for each channel of each head that
the graph holds, since keys are rounded as they are made. The scales are those of the largest values that the model made
of texts to calibrate on. A key is turned by its position (RoPE): what a channel may hold at another position is the
length of the pair that is turned, so the scale is that of the pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper

from scripts.common.errors import IngotError
from scripts.convert.graph import Array, Graph, Writer
from scripts.convert.inference import feeds, session

ATTENTION = "GroupQueryAttention"
#: Places in its lists of inputs and outputs: rotary table; keys and values before, and then; scales of both.
_COSINES, _PAST, _PRESENT, _SCALES = 7, (3, 4), (1, 2), 12
#: The largest number of 8 bits with a sign, without the one that has no opposite.
_MOST = 127
_LEAST = 1e-8  # of a scale: a channel that is always zero must not divide by it


def quantize(source: Path, folder: Path, windows: Array, say: Callable[[str], None]) -> Path:
    """Write the model at `source` into `folder` with keys and values in int8; returns the path of model.onnx.

    `windows` [windows, tokens] are what the scales are calibrated on. Raises `IngotError` for a graph whose attention
    keeps no float32 keys and values in a GroupQueryAttention.
    """
    graph = Graph(source)
    nodes = [node for node in graph.graph.node if node.op_type == ATTENTION and len(node.output) > max(_PRESENT)]
    given = {value.name: value.type.tensor_type for value in (*graph.graph.input, *graph.graph.output)}
    caches = [name for node in nodes for name in (*_named(node.input, _PAST), *_named(node.output, _PRESENT))]
    if not nodes or any(name not in given or given[name].elem_type != TensorProto.FLOAT for name in caches):
        found = f"keeps no keys and values in float32 that a {ATTENTION} reads: they can't be stored in 8 bits"
        raise IngotError(source, found, "Leave CacheQuantization out of the recipe")
    largest = _largest(graph, source, nodes, windows, say)
    with Writer(folder) as writer:
        for node in nodes:
            node.input.extend([""] * (_SCALES - len(node.input)))
            scales = [
                writer.add(f"{name}.scale", np.maximum(largest[name] / _MOST, _LEAST).astype(np.float32).reshape(-1))
                for name in _named(node.output, _PRESENT)
            ]
            rest = list(node.input)[_SCALES + 2 :]
            del node.input[_SCALES:]
            node.input.extend([*scales, *rest])
            kinds = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
            node.attribute.extend(helper.make_attribute(key, value) for key, value in kinds.items())
        for name in caches:
            given[name].elem_type = TensorProto.INT8
        return writer.finish(graph, list(graph.graph.node))


def _named(names: object, places: tuple[int, ...]) -> list[str]:
    return [names[place] for place in places]  # type: ignore[index]


def _largest(
    graph: Graph, path: Path, nodes: list[NodeProto], windows: Array, say: Callable[[str], None]
) -> dict[str, Array]:
    """Of each output of keys or values the largest size [heads, channels] on the texts; of keys, at any position."""
    names = [name for node in nodes for name in _named(node.output, _PRESENT)]
    turned = {node.output[_PRESENT[0]]: list(_pairs(graph, node)) for node in nodes}
    run = session(graph.model, path, names)
    found: dict[str, Array] = {}
    for number, window in enumerate(windows, 1):
        for name, values in zip(names, run.run(names, feeds(run, window, path)), strict=True):
            sizes = np.abs(values[0])
            for one, other in turned.get(name, ()):
                both = np.hypot(sizes[..., one], sizes[..., other])
                sizes[..., one] = sizes[..., other] = both
            found[name] = np.maximum(found.get(name, 0), sizes.max(axis=1))
        say(f"calibrate: keys and values of {number * windows.shape[1]} of {windows.size} tokens")
    return found


def _pairs(graph: Graph, node: NodeProto) -> Iterator[tuple[slice, slice]]:
    """The channels of a key that are turned with one another; where the graph turns them elsewhere, none is known."""
    options = {attribute.name: attribute.i for attribute in node.attribute}
    cosines = graph.initializers.get(node.input[_COSINES]) if len(node.input) > _COSINES else None
    if not options.get("do_rotary") or cosines is None:
        return
    half = int(cosines.dims[1])
    if options.get("rotary_interleaved"):
        yield slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    else:
        yield slice(0, half), slice(half, 2 * half)

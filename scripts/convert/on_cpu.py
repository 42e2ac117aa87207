"""A GPU's graph in what the CPU has kernels for, with the same weights, so that they can be judged without the GPU.

onnxruntime-genai's builder 0.18 gives GroupQueryAttention the weights by which queries and keys are normalised, where
the provider has that (Qwen 3, Gemma 3, LFM2); on the CPU, ONNX Runtime 1.31 refuses those inputs. What they mean is
written out here: RMS normalisation of each head, before the rotary embedding (ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, TensorProto, helper, numpy_helper

from scripts.common import genai_config
from scripts.common.errors import IngotError

#: Positions among the inputs of GroupQueryAttention: query, key, and what normalises them.
_QUERY, _KEY, _QUERY_NORM, _KEY_NORM = 0, 1, 14, 15
_EPSILON = "qk_norm_epsilon"


def graph_of(folder: Path) -> bytes | None:
    """The decoder's graph as the CPU can compute it; None where it needs no change, or can't be read.

    It names the folder's weights as before.
    """
    try:
        decoder = genai_config.read(folder)["model"]["decoder"]["filename"]
        model = onnx.load(folder / decoder, load_external_data=False)
    except (OSError, DecodeError, KeyError, IngotError):  # whoever loads it tells why
        return None
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    nodes, shapes = list[NodeProto](), dict[str, TensorProto]()
    for node in model.graph.node:
        nodes += _apart(node, sizes, shapes) if _normalises(node) else [node]
    if not shapes:
        return None
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(shapes.values())
    return bytes(model.SerializeToString())


def _normalises(node: NodeProto) -> bool:
    # Without a key of its own, query, key and value are packed into the query: the builder does not do that here.
    whole = node.op_type == "GroupQueryAttention" and len(node.input) > _KEY_NORM and bool(node.input[_KEY])
    return whole and bool(node.input[_QUERY_NORM]) and bool(node.input[_KEY_NORM])


def _apart(node: NodeProto, sizes: dict[str, list[int]], shapes: dict[str, TensorProto]) -> Iterator[NodeProto]:
    given = {attribute.name: attribute for attribute in node.attribute}
    epsilon = given[_EPSILON].f if _EPSILON in given else 1e-6
    changed = NodeProto()
    changed.CopyFrom(node)
    for at, norm, heads in ((_QUERY, _QUERY_NORM, "num_heads"), (_KEY, _KEY_NORM, "kv_num_heads")):
        weight, name = node.input[norm], f"{node.name}/{heads}"
        (size,) = sizes[weight]
        wide, flat = (_shape(shapes, last) for last in (size, size * given[heads].i))
        yield helper.make_node("Reshape", [node.input[at], wide], [f"{name}/wide"])
        yield helper.make_node(
            "SimplifiedLayerNormalization", [f"{name}/wide", weight], [f"{name}/normal"], axis=-1, epsilon=epsilon,
            stash_type=1,
        )  # fmt: skip
        yield helper.make_node("Reshape", [f"{name}/normal", flat], [f"{name}/flat"])
        changed.input[at] = f"{name}/flat"
    del changed.input[_QUERY_NORM:]
    if _EPSILON in given:
        changed.attribute.remove(given[_EPSILON])
    yield changed


def _shape(shapes: dict[str, TensorProto], last: int) -> str:
    """The name of the constant [0, -1, last]: the batch, whatever comes out, so many numbers."""
    name = f"ingot/shape/{last}"
    shapes[name] = numpy_helper.from_array(np.array([0, -1, last], np.int64), name)
    return name

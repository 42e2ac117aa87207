"""A GPU's graph in what the CPU has kernels for, with the same weights, so that they can be judged without the GPU.

onnxruntime-genai's builder 0.18 gives GroupQueryAttention the weights by which queries and keys are normalised, where
the provider has that (Qwen 3, Gemma 3, LFM2); on the CPU, ONNX Runtime 1.31 refuses those inputs. What they mean is
written out here: RMS normalisation of each head, before the rotary embedding (ContribOperators.md). What computes in
bfloat16, for which the CPU has few kernels, computes in float32, with each weight's own value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

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
        nodes += _apart(node, sizes, shapes) if _normalises(node, sizes) else [node]
    short = any(tensor.data_type == TensorProto.BFLOAT16 for tensor in model.graph.initializer)
    if not (shapes or short):
        return None
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(shapes.values())
    if short:
        _widen(model.graph, {})
    return bytes(model.SerializeToString())


def _normalises(node: NodeProto, sizes: Mapping[str, list[int]]) -> bool:
    """Whether it is attention of that kind, with all that writing it out takes."""
    if node.op_type != "GroupQueryAttention" or len(node.input) <= _KEY_NORM or not node.input[_KEY]:
        return False  # without a key of its own, query, key and value are packed into one: not by the builder, here
    norms, given = (sizes.get(name, []) for name in node.input[_QUERY_NORM:]), {one.name for one in node.attribute}
    return all(len(dims) == 1 for dims in norms) and {"num_heads", "kv_num_heads"} <= given


def _apart(node: NodeProto, sizes: Mapping[str, list[int]], shapes: dict[str, TensorProto]) -> Iterator[NodeProto]:
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


def _widen(graph: GraphProto, outer: Mapping[str, str]) -> None:
    """Have all that is bfloat16 in a graph, and in those in its nodes, be float32; `outer` names what is around it."""
    short = [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.BFLOAT16]
    wide = {**outer, **{name: f"{name}/float" for name in short}}
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = wide.get(value.name, value.name)  # a branch may give a weight as it is
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = [helper.make_node("Cast", [name], [wide[name]], to=TensorProto.FLOAT) for name in short]
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = wide.get(name, name)
        for attribute in node.attribute:
            _widen_attribute(attribute, wide)
    nodes += list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def _widen_attribute(attribute: AttributeProto, wide: Mapping[str, str]) -> None:
    if attribute.name in ("to", "dtype") and attribute.i == TensorProto.BFLOAT16:
        attribute.i = TensorProto.FLOAT
    if attribute.HasField("t") and attribute.t.data_type == TensorProto.BFLOAT16:
        values = numpy_helper.to_array(attribute.t).astype(np.float32)
        attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
    if attribute.HasField("g"):
        _widen(attribute.g, wide)

"""Is a graph whole, as far as that shows without computing? For graphs that are made for a device that is not here.

ONNX Runtime resolves a graph before it looks for kernels: operators, opsets, types and shapes are judged on the CPU
whatever it was made for. Where a kernel is missing it stops there, and has read no weight nor matched the graph with
genai_config.json. That is judged here; onnx's own checker can't, for it knows no operator of com.microsoft.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from scripts.common.errors import IngotError
from scripts.convert.graph import Array, Graph, release

_REMEDY = "The model was built but must not be used; try another recipe, and see the log"
#: What a decoder is asked for by the runtime whatever its kind.
_NEEDED = {"input_ids", "logits"}
#: Numbers looked at in one go.
_BLOCK = 1 << 22
#: The fields of a TensorProto that hold numbers one by one (onnx.proto, TensorProto.data_type).
_TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
#: Bits of the types of which several share a byte.
_BITS = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4} | {
    getattr(TensorProto, name): 2 for name in ("INT2", "UINT2") if hasattr(TensorProto, name)
}


def check(folder: Path, settings: Mapping[str, Any]) -> None:
    """Whether the decoder's graph holds each weight's bytes, and takes and gives what `settings` say of it.

    `settings`: the content of genai_config.json. Raises `IngotError` that names the file and what is wrong in it.
    """
    graph = _read(folder, settings)
    for tensor in _tensors(graph.graph):
        _bytes_of(folder, _name(settings), tensor)
    for node in graph.graph.node:
        if node.op_type == "MatMulNBits":
            _blocks_of(_name(settings), node, graph.initializers)
    _ends(graph.graph, settings["model"])


def numbers(folder: Path, settings: Mapping[str, Any]) -> None:
    """Whether each weight is finite: what no computation shows, for a graph that can't be run here.

    Reads every float of the model's, some megabytes at a time. Raises `IngotError` that names the weight.
    """
    graph = _read(folder, settings)
    for name, tensor in graph.initializers.items():
        if tensor.data_type in _FLOATS and not _finite(graph.array(name)):
            raise IngotError(_name(settings), f"the weight {name} has values that are NaN or infinite", _REMEDY)


def _name(settings: Mapping[str, Any]) -> str:
    return str(settings["model"]["decoder"]["filename"])


def _read(folder: Path, settings: Mapping[str, Any]) -> Graph:
    path = folder / _name(settings)
    try:
        graph = Graph(path)
    except DecodeError as error:
        raise IngotError(path.name, f"is not an ONNX graph: {error}", _REMEDY) from None
    if not graph.graph.node:
        raise IngotError(path.name, "is an ONNX file without a graph in it", _REMEDY)
    return graph


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor that stands in the graph, its nodes' attributes and the graphs in them."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _size(tensor: TensorProto) -> int:
    """Bytes of a tensor's numbers; two of four bits share one (onnx.proto, TensorProto.raw_data)."""
    bits = _BITS.get(tensor.data_type) or helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
    return -(-math.prod(map(int, tensor.dims)) * int(bits) // 8)


def _bytes_of(folder: Path, file: str, tensor: TensorProto) -> None:
    """Whether each of a tensor's bytes is there."""
    if tensor.data_location != TensorProto.EXTERNAL:
        if any(len(getattr(tensor, field)) for field in _TYPED) or tensor.data_type == TensorProto.STRING:
            return
        if len(tensor.raw_data) != _size(tensor):
            found = (
                f"the tensor {tensor.name} of {list(tensor.dims)} has {len(tensor.raw_data)} bytes, not {_size(tensor)}"
            )
            raise IngotError(file, found, _REMEDY)
        return
    where = {entry.key: entry.value for entry in tensor.external_data}
    path = folder / where.get("location", "")
    if not path.is_file() or not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
        found = f"the weight {tensor.name} is in {where.get('location')!r}, which is not a file of the model's"
        raise IngotError(file, found, _REMEDY)
    start, length = int(where.get("offset") or 0), int(where.get("length") or _size(tensor))
    if length != _size(tensor) or start < 0 or start + length > path.stat().st_size:
        at = f"{length} from {start} on of {path.stat().st_size}"
        found = f"the weight {tensor.name} of {list(tensor.dims)} takes {_size(tensor)} bytes, and is said to be {at}"
        raise IngotError(path.name, found, _REMEDY)


def _blocks_of(file: str, node: NodeProto, tensors: Mapping[str, TensorProto]) -> None:
    """Whether a matrix in blocks is as large as its node says: the shape inference of ONNX Runtime does not.

    B is [N, ceil(K / block_size), block_size · bits / 8], and a block has one scale (ContribOperators.md, MatMulNBits).
    """
    given = {attribute.name: attribute.i for attribute in node.attribute}
    if not given.keys() >= {"N", "K", "block_size"}:
        return  # ONNX Runtime says so
    blocks = -(-given["K"] // given["block_size"])
    wanted = [given["N"], blocks, given["block_size"] * given.get("bits", 4) // 8]
    matrix, scales = (tensors.get(name) for name in node.input[1:3])
    if matrix is not None and list(matrix.dims) != wanted:
        raise IngotError(file, f"the matrix {matrix.name} is {list(matrix.dims)}, and its node wants {wanted}", _REMEDY)
    if scales is not None and math.prod(scales.dims) != given["N"] * blocks:
        found = f"{scales.name} has {math.prod(scales.dims)} scales for {given['N'] * blocks} blocks"
        raise IngotError(file, found, _REMEDY)


def _ends(graph: GraphProto, model: Mapping[str, Any]) -> None:
    """Whether the graph has the inputs and outputs that the settings name, and logits as wide as the vocabulary."""
    decoder = model["decoder"]
    file, layers = decoder["filename"], int(decoder.get("num_hidden_layers") or 0)
    outputs = {value.name: value for value in graph.output}
    for kind, there in (("inputs", {value.name for value in graph.input}), ("outputs", set(outputs))):
        for key, name in (decoder.get(kind) or {}).items():
            # Some layers of a hybrid keep a state of another kind, so that a pattern holds for a part of them; of the
            # rest, the runtime leaves out what a graph does not ask for.
            wanted = [name % at for at in range(layers)] if "%d" in name else [name]
            if wanted and key in _NEEDED | ({key} if "%d" in name else set()) and not there.intersection(wanted):
                raise IngotError(file, f"has none of the {kind} that genai_config.json names as {key}: {name}", _REMEDY)
    logits, words = outputs.get((decoder.get("outputs") or {}).get("logits", "")), model.get("vocab_size")
    if logits is not None and words and _last(logits) not in (0, words):
        raise IngotError(file, f"gives logits for {_last(logits)} tokens, where genai_config.json has {words}", _REMEDY)


def _last(value: ValueInfoProto) -> int:
    """The last dimension of an output, or 0 where it has a name instead of a number."""
    shape = value.type.tensor_type.shape.dim
    return int(shape[-1].dim_value) if shape else 0


def _finite(values: Array) -> bool:
    flat = values.reshape(-1)
    # A conversion to float32 is exact for the shorter types, and numpy tells of bfloat16 by that alone.
    try:
        return all(
            bool(np.isfinite(flat[at : at + _BLOCK].astype(np.float32)).all()) for at in range(0, len(flat), _BLOCK)
        )
    finally:
        release(values)

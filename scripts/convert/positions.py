"""Rotary tables for the positions that a package serves, and no more.

An export has a row of cosines and sines for each position that the model could be given: 32,768 rows of float32 are
64 MB of Gemma 3 270M's four tables, whatever the precision. A precision is made for one context, so it keeps the rows
of that context; LongRoPE's two pairs of tables are cut alike, and the place where the graph changes from one to the
other stays where it is. GroupQueryAttention refuses a position beyond its tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnx import NodeProto, TensorProto, numpy_helper

from scripts.common import genai_config, json_files
from scripts.common.model_files import GRAPH, GRAPH_DATA
from scripts.convert.graph import Graph, Writer

#: Operator → which of its inputs are tables [positions, numbers] (docs/ContribOperators.md of ONNX Runtime, and
#: ONNX's own RotaryEmbedding).
_INPUTS = {
    ("com.microsoft", "GroupQueryAttention"): (7, 8),
    ("com.microsoft", "RotaryEmbedding"): (2, 3),
    ("com.microsoft", "MRotaryEmbedding"): (2, 3),
    ("", "RotaryEmbedding"): (1, 2),
}


def keep(folder: Path, positions: int) -> None:
    """Cut the tables of the model in `folder` to `positions` rows, and what its settings allow to as many tokens.

    Nothing is written where no table is longer.
    """
    graph = Graph(folder / GRAPH)
    names = set(tables(graph))
    long = [name for name in sorted(names & set(graph.initializers)) if _is_long(graph.initializers[name], positions)]
    within = [_shorten(tensor, positions) for tensor in _constants(graph, names) if _is_long(tensor, positions)]
    if long:
        cut = folder.with_name(f"{folder.name}-cut")
        with Writer(cut) as writer:
            for name in long:
                writer.add(name, graph.array(name)[:positions])
            writer.finish(graph, list(graph.graph.node))
        for name in (GRAPH, GRAPH_DATA):
            (cut / name).replace(folder / name)
        cut.rmdir()
    elif within:
        (folder / GRAPH).unlink()  # it may be a link to another folder's
        (folder / GRAPH).write_bytes(graph.model.SerializeToString(deterministic=True))
    if long or within:
        print(f"rotary tables: {len(long) + len(within)} cut to {positions} positions", flush=True)
        _allow(folder, positions)


def tables(graph: Graph) -> Iterator[str]:
    """Names of what is read as a table."""
    for node in graph.graph.node:
        for at in _INPUTS.get((node.domain, node.op_type), ()):
            if at < len(node.input) and node.input[at]:
                yield node.input[at]


def _constants(graph: Graph, names: set[str]) -> Iterator[TensorProto]:
    """The tables among `names` that are chosen by an If, as LongRoPE's are: constants of its branches."""
    for node in graph.graph.node:
        if node.op_type == "If" and names & set(node.output):
            for branch in (attribute.g for attribute in node.attribute):
                for value in branch.output:
                    value.type.tensor_type.ClearField("shape")
                del branch.value_info[:]
                yield from filter(None, map(_constant, branch.node))


def _constant(node: NodeProto) -> TensorProto | None:
    return next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)


def _is_long(tensor: TensorProto, positions: int) -> bool:
    return len(tensor.dims) == 2 and tensor.dims[0] > positions


def _shorten(tensor: TensorProto, positions: int) -> TensorProto:
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:positions].copy(), tensor.name))
    return tensor


def _allow(folder: Path, positions: int) -> None:
    settings: dict[str, Any] = genai_config.read(folder)
    for part, key in (("model", "context_length"), ("search", "max_length")):
        if isinstance(value := settings[part].get(key), int):
            settings[part][key] = min(value, positions)
    json_files.write(folder / genai_config.NAME, settings)

"""A graph with the noise of quantising added where it would arise, and how far that takes its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scripts.convert.blockwise import Array
from scripts.convert.calibration import feeds, session
from scripts.convert.graph import Graph

#: Tokens of a text that are disturbed.
TOKENS = 256
#: Rows of logits taken to float64 at once.
_ROWS = 16


class Noise(NamedTuple):
    """What noise to add: by the tensor `inputs` that is multiplied (none: a look-up) and squared errors `rows` [K]."""

    inputs: str
    rows: Array


def mean_squares(source: Graph, path: Path, names: Sequence[str], windows: Sequence[Array]) -> dict[str, Array]:
    """E[x²] [K] of each tensor over the tokens of the windows, of each token as a share of its own mean square."""
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    names = list(dict.fromkeys(names))
    outputs = shares(model, names)
    run = session(model, path, outputs, mapped=True)
    found = [run.run(outputs, feeds(run, window, path)) for window in windows]
    return {name: np.asarray(np.mean([seen[at] for seen in found], axis=0)) for at, name in enumerate(names)}


def shares(model: onnx.ModelProto, names: Sequence[str]) -> list[str]:
    """Add to a graph what `mean_squares` tells of each tensor, over all tokens of a run; returns the new names."""
    reduced = {name: f"{name}_mean_square" for name in names}
    of_tokens = numpy_helper.from_array(np.array([0, 1], np.int64), "mean_square_tokens")
    of_inputs = numpy_helper.from_array(np.array([2], np.int64), "mean_square_inputs")
    least = numpy_helper.from_array(np.array(1e-30, np.float32), "mean_square_least")  # of a token that is all zero
    model.graph.initializer.extend([of_tokens, of_inputs, least])
    for name, made in reduced.items():
        model.graph.node.extend([
            helper.make_node("Mul", [name, name], [f"{made}_all"]),
            helper.make_node("ReduceMean", [f"{made}_all", of_inputs.name], [f"{made}_token"], keepdims=1),
            helper.make_node("Max", [f"{made}_token", least.name], [f"{made}_some"]),
            helper.make_node("Div", [f"{made}_all", f"{made}_some"], [f"{made}_share"]),
            helper.make_node("ReduceMean", [f"{made}_share", of_tokens.name], [made], keepdims=0),
        ])  # fmt: skip
    return list(reduced.values())


def disturbed(source: Graph, noises: Mapping[str, Noise]) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The graph with noise added to tensors, as much as `noise_levels`[i] says of it, its sign by token and channel."""
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    order = {name: number for number, name in enumerate(noises)}
    draw = np.random.default_rng(0)
    nodes = list(model.graph.node)
    tokens = draw.choice(np.array([-1, 1], np.float32), (1, TOKENS, 1))
    model.graph.initializer.append(numpy_helper.from_array(tokens, "noise_tokens"))
    model.graph.input.append(helper.make_tensor_value_info("noise_levels", onnx.TensorProto.FLOAT, [len(order)]))
    made: list[onnx.NodeProto] = []
    for node in nodes:
        made.append(node)
        for at, name in enumerate(node.output):
            if name not in order:
                continue
            node.output[at] = f"{name}_undisturbed"
            width = _width(source, node)
            signs = draw.choice(np.array([-1, 1], np.float32), (1, 1, width))
            index = numpy_helper.from_array(np.array(order[name], np.int64), f"{name}_noise_index")
            rows = noises[name].rows.astype(np.float32)[:, None]
            errors = numpy_helper.from_array(rows, f"{name}_noise_errors")
            model.graph.initializer.extend([numpy_helper.from_array(signs, f"{name}_noise_signs"), index, errors])
            made += _noise(name, noises[name].inputs)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(made)
    return model, order


def _noise(name: str, inputs: str) -> list[onnx.NodeProto]:
    """Nodes that add noise to the tensor `name`: of a token √Σₖ xₖ²·Δₖ²; of a look-up the root of the mean of Δₖ²."""
    of = f"{name}_noise"
    if inputs:
        size = [
            helper.make_node("Mul", [inputs, inputs], [f"{of}_squares"]),
            helper.make_node("MatMul", [f"{of}_squares", f"{of}_errors"], [f"{of}_energy"]),
        ]
    else:
        size = [helper.make_node("ReduceMean", [f"{of}_errors"], [f"{of}_energy"], keepdims=0)]
    return [
        *size,
        helper.make_node("Sqrt", [f"{of}_energy"], [f"{of}_size"]),
        helper.make_node("Gather", ["noise_levels", f"{of}_index"], [f"{of}_level"]),
        helper.make_node("Mul", [f"{of}_size", f"{of}_level"], [f"{of}_scaled"]),
        helper.make_node("Mul", ["noise_tokens", f"{of}_scaled"], [f"{of}_tokens"]),
        helper.make_node("Mul", [f"{of}_tokens", f"{of}_signs"], [of]),
        helper.make_node("Add", [f"{name}_undisturbed", of], [name]),
    ]


def _width(source: Graph, node: onnx.NodeProto) -> int:
    """Channels of what a MatMul, or the look-up of a table, gives."""
    if node.op_type == "MatMul":
        return int(source.initializers[node.input[1]].dims[1])
    table = source.initializers.get(node.input[0])
    if table is not None:
        return int(table.dims[1])
    turned = next(other for other in source.graph.node if node.input[0] in other.output)
    return int(source.initializers[turned.input[0]].dims[0])


def divergence(truth: Array, other: Array) -> float:
    """Mean KL(truth ‖ other) in nats over the rows of two arrays of logits [tokens, vocabulary]."""
    total = 0.0
    for start in range(0, len(truth), _ROWS):
        p, q = (_log_softmax(values[start : start + _ROWS].astype(np.float64)) for values in (truth, other))
        total += float((np.exp(p) * (p - q)).sum())
    return total / len(truth)


def _log_softmax(values: Array) -> Array:
    shifted = values - values.max(axis=1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result

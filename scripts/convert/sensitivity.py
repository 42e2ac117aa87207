"""What a graph is given, on average over the tokens of a text, and how far its answers are from another's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scripts.convert import blas
from scripts.convert.blockwise import Array
from scripts.convert.graph import Graph
from scripts.convert.inference import feeds, session

#: Tokens of a text on which they are compared.
TOKENS = 256
#: Rows of logits taken to float64 at once by a thread.
_ROWS = 4


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


def divergence(truth: Array, other: Array) -> float:
    """Mean KL(truth ‖ other) in nats over the rows of two arrays of logits [tokens, vocabulary].

    With d = other - truth less its mean by truth's probabilities p, a row's is log Σ p·exp(d): of what is near each
    other nothing is left to cancel, so that p needs no more than float32.
    """

    def of_rows(start: int) -> float:
        one, two = (values[start : start + _ROWS].astype(np.float32, copy=False) for values in (truth, other))
        weights = np.exp(one - one.max(axis=1, keepdims=True))
        total = weights.sum(axis=1, dtype=np.float64)
        apart = np.subtract(two, one, dtype=np.float64)
        apart -= (np.einsum("ij,ij->i", weights, apart) / total)[:, None]
        return float(np.log(np.einsum("ij,ij->i", weights, np.exp(apart, out=apart)) / total).sum())

    return sum(blas.spread(of_rows, range(0, len(truth), _ROWS))) / len(truth)

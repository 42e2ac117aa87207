"""What rounding each matrix of a graph, or part of one, does to the model's answers, for every scheme that it can have.

It is measured: the matrix is rounded as `REFERENCE` says, by the algorithm of the plan, and the KL divergence of the
next token from the untouched model's is taken on texts that it was not fitted to, for some layers of one kind of matrix
at a time. What other schemes would do is told by their errors beside that one's: of a weight's input k the mean of
squared errors Δₖ², times that of the inputs themselves, xₖ², every token counting alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scripts.common.errors import IngotError
from scripts.convert import blas, blockwise
from scripts.convert.blockwise import Array, Quantized, Scheme
from scripts.convert.calibration import Calibration
from scripts.convert.graph import Graph, release
from scripts.convert.inference import feeds, session
from scripts.convert.items import REFERENCE, Item, schemes, size
from scripts.convert.plan import is_calibrated

#: Outputs of a matrix by which its error is judged; windows; layers are cut into so many groups, or more.
_SAMPLE, _WINDOWS, _GROUPS = 256, 2, 6
#: Bytes of float weights that are held for a group, where that is more than one matrix.
_HELD = 1 << 30
#: Tokens of a text on which they are compared.
TOKENS = 256
#: Rows of logits taken to float64 at once by a thread.
_ROWS = 4


def measure(
    source: Graph, path: Path, items: Sequence[Item], windows: Array, scale_bits: int, tied: Collection[str],
    algorithm: str, scratch: Path, progress: Callable[[str], None],
) -> None:  # fmt: skip
    """Fill in the choices of all `items`. `tied`: the weights that are looked up too. `scratch`: an empty folder, for
    the matrices as the reference rounds them.

    Raises `IngotError` where a matrix' loss comes out as no number.
    """
    step = max(1, len(windows) // _WINDOWS)
    used = [window[:TOKENS] for window in windows[::step][:_WINDOWS]]
    fitted = np.delete(windows, np.arange(0, len(windows), step)[:_WINDOWS], axis=0)
    rounded = _rounded(source, path, items, fitted if len(fitted) else windows, algorithm, scratch, progress)
    losses = _losses(source, path, items, rounded, used, progress)
    squares = mean_squares(source, path, [item.inputs for item in items if item.inputs], used)
    for item, felt in zip(items, losses, strict=True):
        energy = _energies(source, item, schemes(item, tied, algorithm))
        share = squares.get(item.inputs, np.ones(item.shape[0]))
        reference = next(float(rows @ share) for scheme, rows in energy.items() if _is_reference(scheme))
        for scheme, rows in energy.items():
            loss = felt * float(rows @ share) / max(reference, 1e-30)
            if not np.isfinite(loss):
                found = f"what fewer bits of {item.weight} cost can't be told: its inputs or the logits overflow"
                raise IngotError(path, found, "Calibrate on other texts, or leave out target_bits")
            item.choices.append((size(item.shape, scheme, scale_bits), float(f"{loss:.3g}"), scheme))


def _rounded(
    source: Graph, path: Path, items: Sequence[Item], windows: Array, algorithm: str, scratch: Path,
    progress: Callable[[str], None],
) -> list[Path]:  # fmt: skip
    """A file for each item, of what the reference makes of it."""
    scheme = Scheme(*REFERENCE, algorithm)
    widths = {(item.inputs, scheme.block_size): item.shape[0] for item in items if item.inputs}
    calibration = Calibration(windows, source, path, widths, progress) if is_calibrated(scheme) else None
    files = []
    for number, item in enumerate(items):
        weight = item.columns(source.array(item.weight))
        if calibration and item.inputs:
            value = calibration.quantize(item.inputs, weight, scheme)
        else:
            value = blockwise.quantize(weight, scheme)
        files.append(scratch / f"{number}.npz")
        np.savez(files[-1], **{name: part for name, part in vars(value).items() if part is not None})
        release(weight)
        if (number + 1) % 32 == 0 or number + 1 == len(items):
            progress(f"allocate: rounded {number + 1} of {len(items)} matrices")
    return files


def _losses(
    source: Graph, path: Path, items: Sequence[Item], rounded: Sequence[Path], windows: Sequence[Array],
    progress: Callable[[str], None],
) -> list[float]:  # fmt: skip
    """KL in nats that the rounding of each item costs, each group's shared out evenly among its items."""
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    for name in {item.weight for item in items}:  # an input of the name of an initializer may be given instead of it
        tensor = source.initializers[name]
        model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    run = session(model, path, ["logits"], mapped=True)
    given = [feeds(run, window, path) for window in windows]

    def answer(number: int, weights: Mapping[str, Array]) -> Array:
        values: Array = run.run(["logits"], {**given[number], **weights})[0][0]
        return values

    truths = [answer(number, {}) for number in range(len(windows))]
    found, groups = [0.0] * len(items), list(_grouped(items))
    for done, group in enumerate(groups, 1):
        weights: dict[str, Array] = {}
        for number in group:
            item = items[number]
            if item.weight not in weights:
                weights[item.weight] = np.array(source.array(item.weight))
            with np.load(rounded[number]) as file:
                value = Quantized(**file)
            item.put(weights[item.weight], blockwise.dequantize(value, Scheme(*REFERENCE), item.shape[0]))
        loss = float(np.mean([divergence(truth, answer(number, weights)) for number, truth in enumerate(truths)]))
        for number in group:
            found[number] = max(loss, 0.0) / len(group)
        if done % 8 == 0 or done == len(groups):
            progress(f"allocate: {done} of {len(groups)} groups of matrices")
    return found


def _grouped(items: Sequence[Item]) -> Iterator[list[int]]:
    """The items to round together: of one kind of matrix, in layers beside each other."""
    kinds = defaultdict[str, list[int]](list)
    for number, item in enumerate(items):
        kinds[item.kind].append(number)
    for members in kinds.values():
        members.sort(key=lambda number: items[number].layer)
        held = 4 * max(prod(items[number].shape) for number in members)
        step = min(-(-len(members) // _GROUPS), max(1, _HELD // held))
        for start in range(0, len(members), step):
            yield members[start : start + step]


def _energies(source: Graph, item: Item, schemes: Sequence[Scheme]) -> dict[Scheme, Array]:
    """Of each scheme the mean square of the weights' errors, by input [K]."""
    weight = item.columns(source.array(item.weight))
    inputs, outputs = weight.shape
    sample = np.ascontiguousarray(weight[:, :: max(1, outputs // _SAMPLE)][:, :_SAMPLE], np.float32)
    release(weight)
    found = {}
    for scheme in schemes:
        search = Scheme(scheme.bits, scheme.block_size, scheme.symmetric, "search")
        errors = blockwise.dequantize(blockwise.quantize(sample, search), search, inputs) - sample
        found[scheme] = np.square(errors, dtype=np.float64).mean(axis=1)
    return found


def _is_reference(scheme: Scheme) -> bool:
    return (scheme.bits, scheme.block_size, scheme.symmetric) == REFERENCE


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
    """Mean KL(truth ‖ other) in nats over the rows of two arrays of logits [tokens, vocabulary]."""

    def of_rows(start: int) -> float:
        p, q = (_log_softmax(values[start : start + _ROWS].astype(np.float64)) for values in (truth, other))
        return float(np.einsum("ij,ij->", np.exp(p), p - q))

    return sum(blas.spread(of_rows, range(0, len(truth), _ROWS))) / len(truth)


def _log_softmax(values: Array) -> Array:
    """Of each row of `values` [rows, vocabulary], in place."""
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values

"""How many bits each matrix gets, for a budget of bits a weight: those that cost least where they are felt least.

What a scheme does to a matrix is noise on its output, Σₖ xₖ²·Δₖ² for each token, by its inputs x on calibration texts
and the errors Δ of its weights, on a sample of its outputs. What noise on that output does to the model is measured: as
much as `REFERENCE` makes is added there, token by token, since the first may have inputs a thousand times as large, and
the KL divergence of the next token from the undisturbed model's is taken, for some layers of one kind of matrix at a
time. Of other schemes the noise is compared with that one's, every token counting alike. KL grows as the energy of the
noise, and that of independent noises adds up; so the loss of any allocation is known, and the best within the budget is
found along each matrix's lower convex hull of bits and loss, steepest first. Source: Shoham and Gersho, "Efficient bit
allocation for an arbitrary set of quantizers" (1988).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from scripts.common.errors import IngotError
from scripts.convert import blockwise, positions
from scripts.convert.blockwise import Array, Scheme
from scripts.convert.calibration import feeds, session
from scripts.convert.graph import Graph, release
from scripts.convert.noise import TOKENS, Noise, disturbed, divergence, mean_squares
from scripts.convert.weightonly import Plan, matrices

#: Block sizes by bits and whether zero points are stored.
_BLOCKS = {(4, False): (16, 32, 64, 128), (4, True): (16, 32, 64, 128), (8, True): (32, 64, 128)}
#: What is added as noise is as large as this one's errors.
REFERENCE = (4, 32, False)
#: Outputs of a matrix by which its error is judged; windows; layers are cut into so many groups.
_SAMPLE, _WINDOWS, _GROUPS = 256, 2, 6
#: A graph grows so much by what quantised operators are told; bytes of padding between a weight's three tensors.
_GRAPH, _PADDING = 1.5, 3 << 11
#: Of a name, the number of the layer.
_LAYER = re.compile(r"(?<=[./])\d+(?=[./])")


@dataclass
class Item:
    """A weight that can be quantised: `shape` [K, N], the tensors that its product, or its look-up, gives.

    `choices` are (bits in the file, loss in nats, scheme), the fewest bits first.
    """

    weight: str
    shape: tuple[int, int]
    kind: str
    layer: int
    outputs: list[str]
    inputs: str = ""  # what it is multiplied with; nothing of a table [N, K] of its own
    choices: list[tuple[float, float, Scheme]] = field(default_factory=list)


@dataclass(frozen=True)
class Budget:
    """`bits` a weight for the whole file; `fixed_bits` are those of what stays as it is, `weights` counts all."""

    bits: float
    fixed_bits: float
    weights: int


def allocate(items: Sequence[Item], budget: Budget) -> dict[str, Scheme]:
    """The scheme of each weight. Raises `IngotError` for a budget that no allocation meets, with the range of those."""
    hulls = [_hull(item.choices) for item in items]
    chosen, left = [0] * len(items), spare([[choice[0] for choice in item.choices] for item in items], budget)
    steps = sorted(
        (-(before[1] - after[1]) / (after[0] - before[0]), number, step)
        for number, hull in enumerate(hulls)
        for step, (before, after) in enumerate(pairwise(hull), 1)
    )
    for _, number, step in steps:
        bits = hulls[number][step][0] - hulls[number][step - 1][0]
        if chosen[number] == step - 1 and bits <= left:
            chosen[number], left = step, left - bits
    return {item.weight: hull[at][2] for item, hull, at in zip(items, hulls, chosen, strict=True)}


def spare(sizes: Sequence[Sequence[float]], budget: Budget) -> float:
    """Bits beyond the fewest that these weights can have, whose possible sizes these are. Raises `IngotError` for a
    budget that no allocation meets, with the range of those.
    """
    total = budget.bits * budget.weights
    least, most = (budget.fixed_bits + sum(map(end, sizes)) for end in (min, max))
    if not least <= total <= most:
        found = f"{budget.bits:g} bits a weight can't be had of this model"
        low, high = np.ceil(100 * least / budget.weights) / 100, np.floor(100 * most / budget.weights) / 100
        raise IngotError("recipe: target_bits", found, f"Give {low:.2f} to {high:.2f}")
    return total - least


def _hull(choices: Sequence[tuple[float, float, Scheme]]) -> list[tuple[float, float, Scheme]]:
    """The lower convex hull: each step costs more bits for every nat than the one before."""
    hull: list[tuple[float, float, Scheme]] = []
    for point in sorted(choices, key=lambda choice: choice[:2]):
        if hull and point[1] >= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], point) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(one: tuple[float, float, Scheme], other: tuple[float, float, Scheme]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])


def measure(
    source: Graph, path: Path, items: Sequence[Item], windows: Array, scale_bits: int, tied: Mapping[str, str],
    algorithm: str, progress: Callable[[str], None],
) -> None:  # fmt: skip
    """Fill in the choices of all `items`. `tied`: of a weight that is looked up too, the tensor that this gives.

    Raises `IngotError` where a matrix' noise comes out as no number.
    """
    used = [window[:TOKENS] for window in windows[:: max(1, len(windows) // _WINDOWS)][:_WINDOWS]]
    squares = mean_squares(source, path, [item.inputs for item in items if item.inputs], used)
    energies = [_energies(source, item, _schemes(item, tied, algorithm)) for item in items]
    noises: dict[str, Noise] = {}
    for item, energy in zip(items, energies, strict=True):
        rows = next(value for scheme, value in energy.items() if _is_reference(scheme))
        noises |= {name: Noise(item.inputs, rows) for name in item.outputs}
        if item.weight in tied:
            noises[tied[item.weight]] = Noise("", rows)
    divergences = _divergences(source, path, items, tied, noises, used, progress)
    for item, energy in zip(items, energies, strict=True):
        weights = {name: squares.get(noises[name].inputs, np.ones(item.shape[0])) for name in item.outputs}
        if item.weight in tied:
            weights[tied[item.weight]] = np.ones(item.shape[0])
        for scheme, rows in energy.items():
            loss = sum(
                divergences[name] * float(rows @ share) / max(float(noises[name].rows @ share), 1e-30)
                for name, share in weights.items()
            )
            if not np.isfinite(loss):
                found = f"what fewer bits of {item.weight} cost can't be told: its inputs or the logits overflow"
                raise IngotError(path, found, "Calibrate on other texts, or leave out target_bits")
            item.choices.append((size(item.shape, scheme, scale_bits), float(f"{loss:.3g}"), scheme))


def size(shape: tuple[int, int], scheme: Scheme, scale_bits: int) -> float:
    """Bits that a matrix [K, N] takes: packed values, scales, zero points."""
    blocks = -(-shape[0] // scheme.block_size)
    zeros = 0 if scheme.symmetric else 8 * (-(-blocks * scheme.bits // 8))
    return float(shape[1] * (blocks * (scheme.block_size * scheme.bits + scale_bits) + zeros))


def _schemes(item: Item, tied: Mapping[str, str], algorithm: str) -> list[Scheme]:
    """Those that it can have: a table's blocks divide its rows, and a block that does not is half empty at its end."""
    whole = item.weight in tied or not item.inputs
    return [
        Scheme(bits, block, symmetric, algorithm)
        for (bits, symmetric), blocks in _BLOCKS.items()
        for block in blocks
        if not item.shape[0] % block or (block == REFERENCE[1] and not whole)
    ]


def _is_reference(scheme: Scheme) -> bool:
    return (scheme.bits, scheme.block_size, scheme.symmetric) == REFERENCE


def _energies(source: Graph, item: Item, schemes: Sequence[Scheme]) -> dict[Scheme, Array]:
    """Of each scheme the mean square of the weights' errors, by input [K]."""
    weight = source.array(item.weight)
    weight = weight if item.inputs else weight.T
    inputs, outputs = weight.shape
    sample = np.ascontiguousarray(weight[:, :: max(1, outputs // _SAMPLE)][:, :_SAMPLE], np.float32)
    release(weight)
    found = {}
    for scheme in schemes:
        search = Scheme(scheme.bits, scheme.block_size, scheme.symmetric, "search")
        errors = blockwise.dequantize(blockwise.quantize(sample, search), search, inputs) - sample
        found[scheme] = np.square(errors, dtype=np.float64).mean(axis=1)
    return found


def _divergences(
    source: Graph, path: Path, items: Sequence[Item], tied: Mapping[str, str], noises: Mapping[str, Noise],
    windows: Sequence[Array], progress: Callable[[str], None],
) -> dict[str, float]:  # fmt: skip
    """KL in nats that the noise on each tensor costs, each group's shared out evenly among its tensors."""
    model, order = disturbed(source, noises)
    logits = next(name for name in (value.name for value in source.graph.output) if name == "logits")
    run = session(model, path, [logits], mapped=True)
    given = [feeds(run, window, path) for window in windows]

    def answer(number: int, levels: Array) -> Array:
        values: Array = run.run([logits], given[number] | {"noise_levels": levels})[0][0]
        return values

    silent = np.zeros(len(order), np.float32)
    truths = [answer(number, silent) for number in range(len(windows))]
    found: dict[str, float] = {}
    groups = list(_grouped(items, tied))
    for done, group in enumerate(groups, 1):
        levels = silent.copy()
        for name in group:
            levels[order[name]] = 1
        loss = float(np.mean([divergence(truth, answer(number, levels)) for number, truth in enumerate(truths)]))
        found |= dict.fromkeys(group, max(loss, 0.0) / len(group))
        if done % 8 == 0 or done == len(groups):
            progress(f"allocate: {done} of {len(groups)} groups of matrices")
    return found


def _grouped(items: Sequence[Item], tied: Mapping[str, str]) -> Iterator[list[str]]:
    """The tensors to disturb together: of one kind of matrix, in layers beside each other; a table's alone."""
    kinds: dict[str, list[Item]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item)
    for members in kinds.values():
        members.sort(key=lambda item: item.layer)
        step = -(-len(members) // _GROUPS)
        for start in range(0, len(members), step):
            yield [name for item in members[start : start + step] for name in item.outputs]
    yield from ([name] for name in tied.values())


def _items(source: Graph, nodes: Sequence[onnx.NodeProto]) -> list[Item]:
    """One for each weight that MatMuls `nodes` multiply with, in the order of the graph."""
    found: dict[str, Item] = {}
    for node in nodes:
        weight = node.input[1]
        inputs, outputs = source.initializers[weight].dims
        layer, kind = _LAYER.search(node.name), _LAYER.sub("N", node.name)
        number = int(layer[0]) if layer else 0
        item = found.setdefault(weight, Item(weight, (inputs, outputs), kind, number, [], node.input[0]))
        item.outputs.append(node.output[0])
    return list(found.values())


def _tables(source: Graph, items: list[Item]) -> dict[str, str]:
    """The weights that tokens are looked up in, with the tensor that this gives; a table of its own joins `items`."""
    made = {name: node for node in source.graph.node for name in node.output}
    known, tied = {item.weight: item for item in items}, dict[str, str]()
    for node in source.graph.node:
        if node.op_type != "Gather" or "input_ids" not in node.input[1:]:
            continue
        table = node.input[0]
        turned = made.get(table)
        weight = turned.input[0] if turned is not None and turned.op_type == "Transpose" else table
        if len(source.consumers[table]) > 1 or not source.is_weight(weight):
            continue
        if weight in known and not known[weight].shape[0] % REFERENCE[1]:
            tied[weight] = node.output[0]
        elif weight == table and not source.initializers[table].dims[1] % REFERENCE[1]:
            tokens, hidden = source.initializers[table].dims
            items.append(Item(table, (hidden, tokens), "embedding", 0, [node.output[0]]))
    return tied


def schemes(
    source: Graph, path: Path, windows: Array, plan: Plan, bits: float, context: int, progress: Callable[[str], None]
) -> dict[str, Scheme]:
    """The scheme of every weight that `plan` does not leave as it is, with `bits` a weight of the whole file, whose
    rotary tables end at `context`. `windows` [windows, tokens] of text.
    """
    outputs = source.outputs()
    items = _items(source, [n for n in matrices(source) if plan.scheme(n, n.output[0] in outputs) is not None])
    tied = _tables(source, items) if plan.embedding else {}
    scale_bits, algorithm = 16 if plan.half_scales else 32, plan.body.algorithm
    budget = _budget(source, path, items, bits, context)
    spare([[size(item.shape, one, scale_bits) for one in _schemes(item, tied, algorithm)] for item in items], budget)
    measure(source, path, items, windows, scale_bits, tied, algorithm, progress)
    chosen = allocate(items, budget)
    counts = Counter((f"{one.bits} bits in blocks of {one.block_size}", one.symmetric) for one in chosen.values())
    told = ", ".join(f"{count} of {name}{', symmetric' * even}" for (name, even), count in sorted(counts.items()))
    progress(f"allocate: {bits:g} bits a weight: {told}")
    return chosen


def _budget(source: Graph, path: Path, items: Sequence[Item], bits: float, context: int) -> Budget:
    quantised, rotary = {item.weight for item in items}, set(positions.tables(source))
    fixed, weights = 8.0 * _GRAPH * path.stat().st_size + 8 * _PADDING * len(items), 0
    for name, tensor in source.initializers.items():
        count = prod(tensor.dims)
        if name in rotary and tensor.dims:
            count = count // tensor.dims[0] * min(tensor.dims[0], context)
        elif tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            weights += count
        if name not in quantised:
            fixed += 8 * count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return Budget(bits, fixed, weights)

"""How many bits each matrix gets, or part of one, for a budget of bits a weight: those that cost least where they are
felt least.

What rounding a matrix does to the model is measured: it is rounded as `REFERENCE` says, by the algorithm of the plan,
and the KL divergence of the next token from the untouched model's is taken on texts that it was not fitted to, for some
layers of one kind of matrix at a time. What other schemes would do is told by their errors beside that one's: of a
weight's input k the mean of squared errors Δₖ², times that of the inputs themselves, xₖ², every token counting alike.
KL grows as the energy of errors, and that of independent ones adds up; so the loss of any allocation is known, and the
best within the budget is found along each matrix's lower convex hull of bits and loss, steepest first. Source: Shoham
and Gersho, "Efficient bit allocation for an arbitrary set of quantizers" (1988). Parts are those of `parts.py`, of a
head by how often a token is said; where the embedding shares its matrix, both are rounded.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper

from scripts.common.errors import IngotError
from scripts.convert import blockwise, output_head, parts, positions
from scripts.convert.blockwise import Array, Quantized, Scheme
from scripts.convert.calibration import Calibration
from scripts.convert.graph import Graph, release, room
from scripts.convert.inference import feeds, session
from scripts.convert.parts import Part, Split
from scripts.convert.plan import Plan, is_calibrated, matrices
from scripts.convert.sensitivity import TOKENS, divergence, mean_squares

#: Block sizes by bits and whether zero points are stored. The runtime rounds what it multiplies with in blocks of the
#: same size, to 8 bits: beside weights of 8 bits that is most of the error, and larger blocks double it.
_BLOCKS = {(4, False): (16, 32, 64, 128), (4, True): (16, 32, 64, 128), (8, True): (32,)}
#: Bits, block size and symmetry of the scheme whose loss is measured.
REFERENCE = (4, 32, False)
#: Outputs of a matrix by which its error is judged; windows; layers are cut into so many groups, or more.
_SAMPLE, _WINDOWS, _GROUPS = 256, 2, 6
#: Bytes of float weights that are held for a group, where that is more than one matrix.
_HELD = 1 << 30
#: Bytes by which a graph grows for each quantised operator, at most.
_OPERATOR = 900
#: Bytes for the place of an output of a matrix in parts.
_PLACE = np.dtype(np.int32).itemsize
#: Of a name, the number of the layer.
_LAYER = re.compile(r"(?<=[./])\d+(?=[./])")


@dataclass
class Item:
    """A part of a weight that can be quantised: its `shape` [K, N], and the tensor `inputs` that it is multiplied with,
    which a table [N, K] of its own does not have.

    `choices` are (bits in the file, loss in nats, scheme), the fewest bits first.
    """

    weight: str
    part: Part
    shape: tuple[int, int]
    kind: str
    layer: int
    inputs: str = ""
    choices: list[tuple[float, float, Scheme]] = field(default_factory=list)

    def columns(self, weight: Array) -> Array:
        """Of the whole `weight` its own [K, N]."""
        return self.part.of(weight if self.inputs else weight.T)

    def put(self, weight: Array, values: Array) -> None:
        """Replace its own of the whole `weight` by `values` [K, N]."""
        whole = weight if self.inputs else weight.T
        whole[:, slice(None) if self.part.outputs is None else self.part.outputs] = values


@dataclass(frozen=True)
class Budget:
    """`bits` a weight for the whole file; `fixed_bits` are those of what stays as it is, `weights` counts all."""

    bits: float
    fixed_bits: float
    weights: int


def allocate(items: Sequence[Item], budget: Budget) -> list[Scheme]:
    """The scheme of each item. Raises `IngotError` for a budget that no allocation meets, with the range of those."""
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
    return [hull[at][2] for hull, at in zip(hulls, chosen, strict=True)]


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
        energy = _energies(source, item, _schemes(item, tied, algorithm))
        share = squares.get(item.inputs, np.ones(item.shape[0]))
        reference = max(float(next(rows for scheme, rows in energy.items() if _is_reference(scheme)) @ share), 1e-30)
        for scheme, rows in energy.items():
            loss = felt * float(rows @ share) / reference
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


def size(shape: tuple[int, int], scheme: Scheme, scale_bits: int) -> float:
    """Bits that a matrix [K, N] takes in the file: packed values, scales, zero points."""
    blocks = -(-shape[0] // scheme.block_size)
    zeros = 0 if scheme.symmetric else -(-blocks * scheme.bits // 8)
    of_output = blocks * scheme.block_size * scheme.bits // 8, blocks * scale_bits // 8, zeros
    return 8.0 * sum(room(shape[1] * count) for count in of_output)


def _schemes(item: Item, tied: Collection[str], algorithm: str) -> list[Scheme]:
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


def _items(source: Graph, nodes: Sequence[onnx.NodeProto], order: Array | None) -> list[Item]:
    """Those of each weight that MatMuls `nodes` multiply with, in the order of the graph; a head's by `order`."""
    found: dict[str, list[Item]] = {}
    heads = {node.input[1] for node in output_head.of(source.graph)}
    for node in nodes:
        weight = node.input[1]
        inputs, outputs = source.initializers[weight].dims
        layer = _LAYER.search(node.name)
        if weight not in found:
            some = parts.of_node(source, node)
            if weight in heads and order is not None and len(order) == outputs:
                some = parts.of_tokens(node.name, order)
            found[weight] = [
                Item(weight, part, (inputs, part.width(outputs)), f"{_LAYER.sub('N', node.name)} {number}",
                     int(layer[0]) if layer else 0, node.input[0])
                for number, part in enumerate(some)
            ]  # fmt: skip
    return [item for some in found.values() for item in some]


def _tables(source: Graph, items: list[Item]) -> set[str]:
    """Those of the weights in which tokens are looked up too; a table of its own joins `items`."""
    made = {name: node for node in source.graph.node for name in node.output}
    known, tied = {item.weight: item for item in items}, set[str]()
    for node in source.graph.node:
        if node.op_type != "Gather" or "input_ids" not in node.input[1:]:
            continue
        table = node.input[0]
        turned = made.get(table)
        weight = turned.input[0] if turned is not None and turned.op_type == "Transpose" else table
        if len(source.consumers[table]) > 1 or not source.is_weight(weight):
            continue
        if weight in known and not known[weight].shape[0] % REFERENCE[1]:
            tied.add(weight)
        elif weight == table and not source.initializers[table].dims[1] % REFERENCE[1]:
            tokens, hidden = source.initializers[table].dims
            items.append(Item(table, Part(table, None), (hidden, tokens), "embedding", 0))
    return tied


def splits(
    source: Graph, path: Path, windows: Array, plan: Plan, bits: float, context: int, folder: Path,
    progress: Callable[[str], None],
) -> dict[str, Split]:  # fmt: skip
    """The parts, with a scheme each, of every weight that `plan` does not leave as it is, with `bits` a weight of the
    whole file, whose rotary tables end at `context`. `windows` [windows, tokens] of text; `folder` has room for what is
    rounded meanwhile.
    """
    items = _items(source, [node for node in matrices(source) if not plan.stays(node)], plan.order)
    tied = _tables(source, items) if plan.embedding else set[str]()
    scale_bits, algorithm = 16 if plan.half_scales else 32, plan.body.algorithm
    budget = _budget(source, path, items, bits, context)
    spare([[size(item.shape, one, scale_bits) for one in _schemes(item, tied, algorithm)] for item in items], budget)
    with TemporaryDirectory(prefix=".rounded-", dir=folder) as scratch:
        measure(source, path, items, windows, scale_bits, tied, algorithm, Path(scratch), progress)
    chosen, found = allocate(items, budget), dict[str, Split]()
    counts = Counter[tuple[str, bool]]()
    for item, one in zip(items, chosen, strict=True):
        found.setdefault(item.weight, []).append((item.part, one))
        counts[f"{one.bits} bits in blocks of {one.block_size}", one.symmetric] += item.shape[0] * item.shape[1]
    of = sum(counts.values())
    told = ", ".join(
        f"{100 * count / of:.0f} % {name}{', symmetric' * even}" for (name, even), count in sorted(counts.items())
    )
    progress(f"allocate: {bits:g} bits a weight: {told}")
    return {weight: parts.joined(some) for weight, some in found.items()}


def _budget(source: Graph, path: Path, items: Sequence[Item], bits: float, context: int) -> Budget:
    quantised, rotary = {item.weight for item in items}, set(positions.tables(source))
    fixed, weights = 8.0 * (path.stat().st_size + _OPERATOR * len(items)), 0
    fixed += sum(8 * _PLACE * item.shape[1] for item in items if item.part.outputs is not None)
    for name, tensor in source.initializers.items():
        count = prod(tensor.dims)
        if name in rotary and tensor.dims:
            count = count // tensor.dims[0] * min(tensor.dims[0], context)
        elif tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            weights += count
        if name not in quantised:
            fixed += 8 * room(count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return Budget(bits, fixed, weights)

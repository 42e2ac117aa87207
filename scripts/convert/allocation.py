"""Which bits each matrix gets, or part of one, within a budget of bits a weight: those that cost least where they are
felt least.

What each scheme of each costs is measured (`sensitivity.py`). KL grows as the energy of errors, and that of independent
ones adds up; so the loss of any allocation is known, and the best within the budget is found along each matrix's lower
convex hull of bits and loss, steepest first. Source: Shoham and Gersho, "Efficient bit allocation for an arbitrary set
of quantizers" (1988).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper

from scripts.common.errors import IngotError
from scripts.convert import parts, positions, sensitivity
from scripts.convert.blockwise import Array, Scheme
from scripts.convert.graph import Graph, room
from scripts.convert.items import Item, of_nodes, schemes, size, tables
from scripts.convert.parts import Split
from scripts.convert.plan import Plan, matrices

#: Bytes by which a graph grows for each quantised operator, at most.
_OPERATOR = 900
#: Bytes for the place of an output of a matrix in parts.
_PLACE = np.dtype(np.int32).itemsize


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


def splits(
    source: Graph, path: Path, windows: Array, plan: Plan, bits: float, context: int, folder: Path,
    progress: Callable[[str], None],
) -> dict[str, Split]:  # fmt: skip
    """The parts, with a scheme each, of every weight that `plan` does not leave as it is, with `bits` a weight of the
    whole file, whose rotary tables end at `context`. `windows` [windows, tokens] of text; `folder` has room for what is
    rounded meanwhile.
    """
    items = of_nodes(source, [node for node in matrices(source) if not plan.stays(node)], plan.order)
    tied = tables(source, items) if plan.embedding else set[str]()
    scale_bits, algorithm = 16 if plan.half_scales else 32, plan.body.algorithm
    budget = _budget(source, path, items, bits, context)
    spare([[size(item.shape, one, scale_bits) for one in schemes(item, tied, algorithm)] for item in items], budget)
    with TemporaryDirectory(prefix=".rounded-", dir=folder) as scratch:
        sensitivity.measure(source, path, items, windows, scale_bits, tied, algorithm, Path(scratch), progress)
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

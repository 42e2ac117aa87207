"""GPTQ: round a weight matrix input by input, and let the inputs not yet rounded make up for each error.

What counts is not the error of the weights but that of the outputs, ‖X·W - X·Q‖², over the inputs X that a model really
sees. With H = XᵀX the best correction of the remaining rows, once a row is rounded, is known in closed form (Frantar et
al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2022), arXiv:2210.17323).

It is computed here without the inverse that the paper factors. With H = V·Vᵀ, V upper triangular, that error is the
sum over rows i of the squares of (Vᵀ·E)[i], E = W - Q, each of which knows of no later row; so the best that row i can
be rounded from is W[i] + (V[:i, i]ᵀ·E[:i]) / V[i, i] (Chee et al., "QuIP: 2-Bit Quantization of Large Language Models
With Guarantees" (2023), arXiv:2307.13304, where the two are shown to be one algorithm). As long as none of a block's
rows is rounded, that is W + V⁻ᵀ·(V[:start]ᵀ·E[:start]) for all of them, with the block's own V⁻¹, which is all that is
inverted; in the block algorithm 1 of the first paper goes on with U = V⁻¹.

Two things differ. Scale and zero point of a block are searched for when the block is reached, on weights that already
hold the corrections, and row i's errors count by V[i, i]², which is what they leave for good. And the inputs of most
energy are rounded first, while there are many others to make up for it; those of a block stay together, as they share
its scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from scripts.convert import blas, blockwise
from scripts.convert.blockwise import Array, Quantized, Scheme

#: Added to the diagonal of H, as a share of its mean: few texts must not look like certainty (the paper's 1 %).
_DAMPING = 0.01
#: Outputs handled at once by one thread, or half of them: a copy of so many columns is all the memory that this needs.
#: Not fewer where there are more cores: threads wait for the interpreter between operations on narrow rows. On 2 cores
#: 4,864 columns of 896 took 1.1 s in 16 parts, 0.4 s in 4; on 16 the example took longer than on 2 of them.
_COLUMNS = 1024
#: Rows for which the errors of the rows before them are summed at once: those errors are read that much less often.
_ROWS = 256
#: Columns of a Cholesky factor that are computed at once.
_PANEL = 128
#: Inputs up to which several matrices [K, K] are worked on at once: one takes 256 MB at the most.
AT_ONCE = 4096


@dataclass(frozen=True)
class Factor:
    """What is known of a matrix's K inputs, for blocks of one size.

    `order` int [K]: the inputs as they are rounded, block by block; `upper` [K, K] float32: V of H in that order,
    with anything below its diagonal.
    """

    order: Array
    upper: Array


def factor(gram: Array, block_size: int) -> Factor:
    """Of H = `gram` [K, K] float32; see the module.

    In float32, whose errors are a ten-millionth of the largest energy, as those of H's own sums are: what is added to
    the diagonal is a hundredth of the mean energy.
    """
    energy = np.diag(gram)
    order = _order(energy, block_size)
    # Turned about both axes, H = J·L·Lᵀ·J gives V = J·L·J.
    turned = np.empty_like(gram)
    for start in range(0, len(gram), _ROWS):
        np.take(gram[order[::-1][start : start + _ROWS]], order[::-1], axis=1, out=turned[start : start + _ROWS])
    # Of an input that was always zero, or too small for float32, nothing is known, and nothing depends on it.
    np.einsum("ii->i", turned)[:] += max(_DAMPING * energy.mean(dtype=np.float64), np.finfo(np.float32).tiny)
    _cholesky(turned)
    return Factor(order, turned[::-1, ::-1])


def _cholesky(matrix: Array) -> None:
    """Replace the lower half of a matrix by L, `matrix` = L·Lᵀ, in place and in float32; above it nothing is said.

    numpy's own computes in float64, whatever it is given, and needs two more matrices of the size.
    """
    for start in range(0, len(matrix), _PANEL):
        panel = slice(start, start + _PANEL)
        matrix[start:, panel] -= matrix[start:, :start] @ matrix[panel, :start].T
        matrix[panel, panel] = np.linalg.cholesky(matrix[panel, panel])
        below = matrix[panel.stop :, panel]
        below[:] = below @ np.linalg.inv(matrix[panel, panel]).T


def factors(grams: dict[str, Array], wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Factor]:
    """`factor` of each by name and block size, several at once where they are small; `grams` is emptied."""
    sizes: dict[str, list[int]] = {}
    for name, size in wanted:
        sizes.setdefault(name, []).append(size)

    def made(name: str) -> dict[tuple[str, int], Factor]:
        gram = grams.pop(name)
        return {(name, size): factor(gram, size) for size in sizes[name]}

    found = blas.spread(made, sizes, lambda name: len(grams[name]) <= AT_ONCE)
    return {key: value for some in found for key, value in some.items()}


def _order(energy: Array, block_size: int) -> Array:
    """The inputs [K], of `energy` [K]: the blocks of most energy first, and in each its inputs of most energy first."""
    starts = range(0, len(energy), block_size)
    blocks = [start + np.argsort(-energy[start : start + block_size], kind="stable") for start in starts]
    return np.concatenate(sorted(blocks, key=lambda block: -energy[block].sum(dtype=np.float64)))


def quantize(weight: Array, scheme: Scheme, known: Factor) -> Quantized:
    """Quantise `weight` [K, N] to 4 bits by `scheme`; `known` is the `factor` of its inputs, for its blocks."""
    outputs = weight.shape[1]
    starts = range(0, outputs, min(_COLUMNS, -(-outputs // 2)))
    parts = blas.spread(lambda start: _columns(weight[:, start : start + starts.step], scheme, known), starts)
    packed, scales = (np.concatenate([getattr(part, name) for part in parts]) for name in ("packed", "scales"))
    zeros = (
        None
        if scheme.symmetric
        else np.concatenate([part.zero_points for part in parts if part.zero_points is not None])
    )
    return Quantized(packed, scales.astype(weight.dtype), zeros)


def _columns(weight: Array, scheme: Scheme, known: Factor) -> Quantized:
    """`quantize`, in one thread, for some of the outputs."""
    inputs, outputs = weight.shape
    size, upper = scheme.block_size, known.upper
    blocks = -(-inputs // size)
    counts = (np.diag(upper) / np.diag(upper).max()) ** 2
    codes = np.zeros((blocks * size, outputs), np.uint8)
    scales, zeros = np.empty((blocks, outputs), np.float32), np.empty((blocks, outputs), np.uint8)
    errors = np.empty((inputs, outputs), np.float32)  # of the rows that are rounded
    for some in _some_blocks(known.order, size):
        first, end = some[0].start, some[-1].stop
        owed = upper[:first, first:end].T @ errors[:first]
        for rows in some:
            block = known.order[rows.start] // size
            exact = np.asarray(weight[known.order[rows]], np.float32)
            inverse = np.linalg.inv(np.triu(upper[rows, rows]))
            before = slice(first, rows.start)
            due = owed[rows.start - first : rows.stop - first] + upper[before, rows].T @ errors[before]
            left = exact + inverse.T @ due
            scale, zero = blockwise.grid(left, scheme.symmetric, counts[rows])
            # Stored as float16 later: round for the scale that the runtime will see.
            scales[block], zeros[block] = scale.astype(np.float16).astype(np.float32), zero
            steps = _block(left, inverse, scales[block], zeros[block])
            codes[known.order[rows]] = steps + zeros[block]
            errors[rows] = exact - steps * scales[block]
    codes[inputs:] = zeros[-1]
    return blockwise.pack(codes.reshape(blocks, size, outputs), scales, None if scheme.symmetric else zeros)


def _some_blocks(order: Array, size: int) -> Iterator[list[slice]]:
    """The rows of each block in `order`, in lists of so many blocks as have `_ROWS` rows."""
    found: list[slice] = []
    start = 0
    while start < len(order):
        found.append(slice(start, start + min(size, len(order) - order[start] // size * size)))
        start = found[-1].stop
    count = max(1, _ROWS // size)
    for place in range(0, len(found), count):
        yield found[place : place + count]


def _block(left: Array, inverse: Array, scale: Array, zero: Array) -> Array:
    """Round the rows of one block in turn; `left` is used up. Returns steps of `scale` from zero, float32 [rows, N]."""
    steps = np.empty_like(left)
    low, high, per_step = -zero.astype(np.float32), 15 - zero.astype(np.float32), 1 / scale
    for row in range(len(left)):
        steps[row] = np.clip(np.rint(left[row] * per_step), low, high)
        error = (left[row] - steps[row] * scale) / inverse[row, row]
        left[row + 1 :] -= inverse[row, row + 1 :, None] * error
    return steps

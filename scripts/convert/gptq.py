"""GPTQ: round a weight matrix input by input, and let the inputs not yet rounded make up for each error.

What counts is not the error of the weights but that of the outputs, ‖X·W - X·Q‖², over the inputs X that a model really
sees. With H = XᵀX the best correction of the remaining rows, once a row is rounded, is known in closed form, and the
upper Cholesky factor U of H⁻¹ holds all of it: row i's error e, divided by U[i, i], is spread by U[i, i+1:].
Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2022),
arXiv:2210.17323, algorithm 1. Two things differ here. Scale and zero point of a block are searched for when the block
is reached, on weights that already hold the corrections, and row i's errors count by 1 / U[i, i]², which is what they
leave for good. And the inputs of most energy are rounded first, while there are many others to make up for it; those of
a block stay together, as they share its scale.
"""

from __future__ import annotations

from collections.abc import Iterable
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
#: Below so many rows a triangular matrix is inverted at once.
_SMALL = 128
#: Inputs up to which several matrices [K, K] are worked on at once: one takes 256 MB at the most.
AT_ONCE = 4096


@dataclass(frozen=True)
class Factor:
    """What is known of a matrix's K inputs, for blocks of one size.

    `order` int [K]: the inputs as they are rounded, block by block; `upper` [K, K] float32: U of H in that order.
    """

    order: Array
    upper: Array


def factor(gram: Array, block_size: int) -> Factor:
    """Of H = `gram` [K, K] float32; see the module."""
    energy = np.diag(gram)
    order = _order(energy, block_size)
    # Turned about both axes, H = J·L·Lᵀ·J gives H⁻¹ = Uᵀ·U with U = J·L⁻¹·J: no inverse of H, and a third of the work.
    turned = gram[np.ix_(order[::-1], order[::-1])].astype(np.float64)
    # Where an input was always zero nothing is known of it, and nothing depends on it.
    np.einsum("ii->i", turned)[:] += _DAMPING * energy.mean(dtype=np.float64) or 1
    lower = np.linalg.cholesky(turned)
    del turned
    _invert_lower(lower)
    return Factor(order, np.ascontiguousarray(lower[::-1, ::-1], np.float32))


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


def _invert_lower(matrix: Array) -> None:
    """Replace a lower triangular matrix by its inverse, half by half: nearly all of it is products of matrices."""
    size = len(matrix)
    if size <= _SMALL:
        matrix[:] = np.tril(np.linalg.inv(matrix))
        return
    half = size // 2
    first, second, below = matrix[:half, :half], matrix[half:, half:], matrix[half:, :half]
    _invert_lower(first)
    _invert_lower(second)
    below[:] = -second @ (below @ first)


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
    left = np.asarray(weight[known.order], np.float32, order="C")  # what is still to be rounded, corrections included
    weights = (np.diag(upper).min() / np.diag(upper)) ** 2
    codes = np.zeros((blocks * size, outputs), np.uint8)
    scales, zeros = np.empty((blocks, outputs), np.float32), np.empty((blocks, outputs), np.uint8)
    start = 0
    while start < inputs:
        block = known.order[start] // size
        rows = slice(start, start + min(size, inputs - block * size))
        scale, zero = blockwise.grid(left[rows], scheme.symmetric, weights[rows])
        # Stored as float16 later: round for the scale that the runtime will see.
        scales[block], zeros[block] = scale.astype(np.float16).astype(np.float32), zero
        codes[known.order[rows]], errors = _block(left[rows], upper[rows, rows], scales[block], zeros[block])
        left[rows.stop :] -= upper[rows, rows.stop :].T @ errors
        start = rows.stop
    codes[inputs:] = zeros[-1]
    return blockwise.pack(codes.reshape(blocks, size, outputs), scales, None if scheme.symmetric else zeros)


def _block(left: Array, upper: Array, scale: Array, zero: Array) -> tuple[Array, Array]:
    """Round the rows of one block in turn; `left` is used up. Returns codes uint8 and scaled errors, both [rows, N]."""
    codes, errors = np.empty(left.shape, np.uint8), np.empty_like(left)
    low, high, per_step = -zero.astype(np.float32), 15 - zero.astype(np.float32), 1 / scale
    for row in range(len(left)):
        steps = np.clip(np.rint(left[row] * per_step), low, high)
        codes[row] = steps - low
        errors[row] = (left[row] - steps * scale) / upper[row, row]
        left[row + 1 :] -= upper[row, row + 1 :, None] * errors[row]
    return codes, errors

"""GPTQ: round a weight matrix input by input, and let the inputs not yet rounded make up for each error.

What counts is not the error of the weights but that of the outputs, ‖X·W - X·Q‖², over the inputs X that a model really
sees. With H = XᵀX the best correction of the remaining rows, once a row is rounded, is known in closed form, and the
upper Cholesky factor U of H⁻¹ holds all of it: row i's error e, divided by U[i, i], is spread by U[i, i+1:].
Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2022),
arXiv:2210.17323, algorithm 1. The grid differs here: scale and zero point of a block are searched for when the block
is reached, on weights that already hold the corrections.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from scripts.convert import blas, blockwise
from scripts.convert.blockwise import Array, Quantized, Scheme

#: Added to the diagonal of H, as a share of its mean: few texts must not look like certainty (the paper's 1 %).
_DAMPING = 0.01
#: Outputs handled at once by one thread: a copy of so many columns is all the memory that this needs.
_COLUMNS = 4096
#: Below so many rows a triangular matrix is inverted at once.
_SMALL = 128
#: Inputs up to which several matrices [K, K] are worked on at once: one takes 256 MB at the most.
AT_ONCE = 4096


def factor(gram: Array) -> Array:
    """U [K, K] float32, upper triangular, of H = `gram` [K, K] float32; see the module. `gram` is overwritten."""
    diagonal = np.einsum("ii->i", gram)
    diagonal[diagonal == 0] = 1  # an input that was always zero: nothing is known of it, and nothing depends on it
    diagonal += np.float32(_DAMPING * diagonal.mean(dtype=np.float64))
    # Turned about both axes, H = J·L·Lᵀ·J gives H⁻¹ = Uᵀ·U with U = J·L⁻¹·J: no inverse of H, and a third of the work.
    lower = np.linalg.cholesky(gram[::-1, ::-1].astype(np.float64))
    _invert_lower(lower)
    return np.ascontiguousarray(lower[::-1, ::-1], np.float32)


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


def factors(grams: Mapping[str, Array]) -> dict[str, Array]:
    """`factor` of each: several at once where they are small."""
    return dict(zip(grams, blas.spread(factor, grams.values(), lambda gram: len(gram) <= AT_ONCE), strict=True))


def quantize(weight: Array, scheme: Scheme, upper: Array) -> Quantized:
    """Quantise `weight` [K, N] to 4 bits by `scheme`; `upper` is the `factor` of its inputs."""
    outputs = weight.shape[1]
    starts = range(0, outputs, min(_COLUMNS, -(-outputs // (os.cpu_count() or 1))))
    parts = blas.spread(lambda start: _columns(weight[:, start : start + starts.step], scheme, upper), starts)
    packed, scales = (np.concatenate([getattr(part, name) for part in parts]) for name in ("packed", "scales"))
    zeros = (
        None
        if scheme.symmetric
        else np.concatenate([part.zero_points for part in parts if part.zero_points is not None])
    )
    return Quantized(packed, scales.astype(weight.dtype), zeros)


def _columns(weight: Array, scheme: Scheme, upper: Array) -> Quantized:
    """`quantize`, in one thread, for some of the outputs."""
    inputs, outputs = weight.shape
    size = scheme.block_size
    blocks = -(-inputs // size)
    left = np.array(weight, np.float32, order="C")  # what is still to be rounded, corrections included
    codes = np.zeros((blocks * size, outputs), np.uint8)
    scales, zeros = np.empty((blocks, outputs), np.float32), np.empty((blocks, outputs), np.uint8)
    for block in range(blocks):
        rows = slice(block * size, min((block + 1) * size, inputs))
        scale, zero = blockwise.grid(left[rows], scheme.symmetric)
        # Stored as float16 later: round for the scale that the runtime will see.
        scales[block], zeros[block] = scale.astype(np.float16).astype(np.float32), zero
        errors = _block(left[rows], upper[rows, rows], scales[block], zeros[block], codes[rows])
        codes[rows.stop : (block + 1) * size] = zeros[block]
        left[rows.stop :] -= upper[rows, rows.stop :].T @ errors
    return blockwise.pack(codes.reshape(blocks, size, outputs), scales, None if scheme.symmetric else zeros)


def _block(left: Array, upper: Array, scale: Array, zero: Array, codes: Array) -> Array:
    """Round the rows of one block in turn into `codes`; `left` is used up. Returns the scaled errors [rows, N]."""
    errors = np.empty_like(left)
    low, high, per_step = -zero.astype(np.float32), 15 - zero.astype(np.float32), 1 / scale
    for row in range(len(left)):
        steps = np.clip(np.rint(left[row] * per_step), low, high)
        codes[row] = steps - low
        errors[row] = (left[row] - steps * scale) / upper[row, row]
        left[row + 1 :] -= upper[row, row + 1 :, None] * errors[row]
    return errors

"""Blockwise weight quantisation: a float matrix to small integers, one scale (and zero point) per block of inputs.

The layout is that of ONNX Runtime's contributed operators (source: docs/ContribOperators.md of ONNX Runtime,
`com.microsoft.MatMulNBits` and `com.microsoft.GatherBlockQuantized`). A weight B of shape [K, N] (inputs × outputs)
is cut along K into `blocks = ceil(K / block_size)` blocks per output:

- `packed` uint8 [N, blocks, block_size · bits / 8]: row n is column n of B; two 4-bit values a byte, low half first;
- `scales` [N, blocks], of B's own float type;
- `zero_points` uint8 [N, ceil(blocks · bits / 8)]: packed likewise, each row padded to whole bytes.

A value reads back as `(q - zero_point) * scale`; without zero points the operators take 2^(bits-1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Ways to choose scale and zero point: "rtn" spans each block's extremes and rounds to nearest (ONNX Runtime's own
#: kernel); "search" tries narrower spans too and keeps, block by block, the one with the least squared error.
ALGORITHMS = ("rtn", "search")

#: Spans that "search" tries, as parts of the block's own span. Four bits gain from clipping the extremes.
_SPANS = (1.0, 0.92, 0.84)
#: Values held at once by one thread of "search": what fits a core's cache beside its temporaries.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Scheme:
    """How a matrix is quantised: `bits` 4 or 8, `block_size` a power of two ≥16."""

    bits: int
    block_size: int
    symmetric: bool
    algorithm: str = "rtn"


@dataclass(frozen=True)
class Quantized:
    """A quantised matrix in the layout that the module describes; `zero_points` is None where symmetric."""

    packed: Array
    scales: Array
    zero_points: Array | None


def quantize(weight: Array, scheme: Scheme) -> Quantized:
    """Quantise `weight` [K, N], float32 or float16, along K."""
    if scheme.algorithm == "search" and scheme.bits == 4:
        return _search(weight, scheme)
    return _nearest(weight, scheme)


def dequantize(value: Quantized, scheme: Scheme, inputs: int) -> Array:
    """The float matrix [inputs, N] that the operators compute with; `inputs` is K, so padding is cut off."""
    outputs, blocks, _ = value.packed.shape
    codes = _unpack(value.packed.reshape(outputs, -1), scheme.bits).reshape(outputs, blocks, scheme.block_size)
    if value.zero_points is None:
        zeros: Array = np.full((outputs, blocks), 1 << (scheme.bits - 1), np.float32)
    else:
        zeros = _unpack(value.zero_points, scheme.bits)[:, :blocks].astype(np.float32)
    values: Array = (codes - zeros[..., None]) * value.scales.astype(np.float32)[..., None]
    return values.reshape(outputs, -1)[:, :inputs].T


def _nearest(weight: Array, scheme: Scheme) -> Quantized:
    from onnxruntime.capi import _pybind_state as kernels

    inputs, outputs = weight.shape
    blocks = -(-inputs // scheme.block_size)
    packed = np.zeros((outputs, blocks, scheme.block_size * scheme.bits // 8), np.uint8)
    scales = np.zeros((outputs, blocks), weight.dtype)
    zeros = np.zeros((outputs, -(-blocks * scheme.bits // 8)), np.uint8)
    kernel = {4: kernels.quantize_matmul_4bits, 8: kernels.quantize_matmul_8bits}[scheme.bits]
    padded = _pad(weight, blocks * scheme.block_size)
    kernel(packed, padded, scales, zeros, scheme.block_size, outputs, inputs, scheme.symmetric)
    return Quantized(packed, scales, None if scheme.symmetric else zeros)


def _search(weight: Array, scheme: Scheme) -> Quantized:
    inputs, outputs = weight.shape
    size = scheme.block_size
    blocks = -(-inputs // size)
    packed = np.empty((outputs, blocks, size // 2), np.uint8)
    scales = np.empty((outputs, blocks), weight.dtype)
    zeros = np.empty((outputs, blocks), np.uint8)
    cut = _pad(weight, blocks * size).reshape(blocks, size, outputs)
    width = min(outputs, max(1, _CHUNK // size))

    def fit(place: tuple[int, int]) -> None:
        block, start = place
        columns = slice(start, start + width)
        values = np.ascontiguousarray(cut[block, :, columns], np.float32)
        codes, scales[columns, block], zeros[columns, block] = _fit(values, scheme.symmetric)
        packed[columns, block] = (codes[::2] | codes[1::2] << 4).T

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fit, ((block, start) for block in range(blocks) for start in range(0, outputs, width))):
            pass
    return Quantized(packed, scales, None if scheme.symmetric else _pack(zeros))


def _fit(values: Array, symmetric: bool) -> tuple[Array, Array, Array]:
    """Codes uint8 [size, M], scales and zero points [M] of 4-bit blocks, which stand in the columns of `values`.

    With d = q - zero point, the best scale for given codes is Σxd / Σd², and the squared error it leaves is
    Σx² - (Σxd)² / Σd²: so the candidate with the greatest (Σxd)² / Σd² wins (linear least squares).
    """
    count = values.shape[1]
    best_gain = np.full(count, -1.0, np.float32)
    best_scale = np.ones(count, np.float32)
    best_zero = np.full(count, 8.0, np.float32)
    work, product = np.empty_like(values), np.empty_like(values)
    for scale, zero in _candidates(values, symmetric):
        np.multiply(values, 1 / scale, out=work)
        np.rint(work, out=work)
        np.maximum(work, -zero, out=work)
        np.minimum(work, 15 - zero, out=work)
        match = np.multiply(values, work, out=product).sum(0)
        energy = np.maximum(np.multiply(work, work, out=product).sum(0), 1e-30)
        gain = match * match / energy
        better = gain > best_gain
        np.copyto(best_gain, gain, where=better)
        np.copyto(best_zero, zero, where=better)
        np.copyto(best_scale, match / energy, where=better)
    best_scale[best_scale == 0] = 1
    codes = np.rint(values / best_scale) + best_zero
    return np.clip(codes, 0, 15).astype(np.uint8), best_scale, best_zero.astype(np.uint8)


def _candidates(values: Array, symmetric: bool) -> Iterator[tuple[Array, Array]]:
    """Scales and zero points worth trying, float32 [M] each; among the first is that of round-to-nearest."""
    low, high = np.minimum(values.min(0), 0), np.maximum(values.max(0), 0)
    middle = np.full(values.shape[1], 8.0, np.float32)
    tiny = np.float32(1e-12)
    if symmetric:  # one more step below zero than above: put the larger extreme on either side
        extreme = np.where(high > -low, high, low)
        extreme = np.where(np.abs(extreme) < tiny, tiny, extreme)
        for steps in (-8.0, 8.0, 7.0):
            for span in _SPANS:
                yield (extreme * np.float32(span / steps)).astype(np.float32), middle
        return
    width = np.maximum(high - low, tiny)
    exact = -low / width * np.float32(15)
    for span in _SPANS:
        scale = width * np.float32(span / 15)
        for shift in (0, -1, 1):
            yield scale, np.clip(np.rint(exact) + np.float32(shift), 0, 15)


def _pad(weight: Array, inputs: int) -> Array:
    short = inputs - weight.shape[0]
    return np.pad(weight, ((0, short), (0, 0))) if short else np.ascontiguousarray(weight)


def _pack(codes: Array) -> Array:
    """uint8 codes below 16, [R, C] → [R, ceil(C / 2)], low half first."""
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    packed: Array = even[:, ::2] | even[:, 1::2] << 4
    return packed


def _unpack(packed: Array, bits: int) -> Array:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)

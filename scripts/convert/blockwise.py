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

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.common.machine import usable_cores

Array = NDArray[Any]

#: Narrower spans that "search" tries, as parts of the block's own. Four bits gain from clipping the extremes.
_SPANS = (0.92, 0.84)
#: Values held at once by one thread of "search": what fits a core's cache beside its temporaries.
_CHUNK = 1 << 17


@dataclass(frozen=True)
class Scheme:
    """How a matrix is quantised: `bits` 4 or 8, `block_size` a power of two ≥16.

    `algorithm` chooses scale and zero point. "rtn" spans each block's extremes and rounds to nearest (ONNX Runtime's
    own kernel); "search" tries narrower spans too and keeps, block by block, the one with the least squared error;
    "gptq" looks at what the weights are multiplied with, too (`gptq.py`). The last two are for 4 bits.
    """

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
    """Quantise `weight` [K, N], float32 or float16, along K, looking at nothing but the weights."""
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


def pack(codes: Array, scales: Array, zeros: Array | None) -> Quantized:
    """4-bit codes uint8 [blocks, size, N], scales and zero points [blocks, N], in the operators' layout."""
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).transpose(2, 0, 1)
    points = None if zeros is None else _pack(np.ascontiguousarray(zeros.T))
    return Quantized(np.ascontiguousarray(packed), np.ascontiguousarray(scales.T), points)


def beside(values: list[Quantized]) -> Quantized:
    """One matrix of all outputs of several of one scheme and with as many inputs, in their order."""
    zeros = [value.zero_points for value in values if value.zero_points is not None]
    return Quantized(
        np.concatenate([value.packed for value in values]),
        np.concatenate([value.scales for value in values]),
        np.concatenate(zeros) if zeros else None,
    )


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
    deep = max(1, _CHUNK // size // outputs)
    wide = min(outputs, _CHUNK // size)

    def fit(place: tuple[int, int]) -> None:
        rows, columns = slice(place[0], place[0] + deep), slice(place[1], place[1] + wide)
        part = cut[rows, :, columns].transpose(1, 0, 2)
        values = np.ascontiguousarray(part, np.float32).reshape(size, -1)
        codes, scale, zero = _fit(values, scheme.symmetric)
        shape = part.shape[1:]
        scales[columns, rows] = scale.reshape(shape).T
        zeros[columns, rows] = zero.reshape(shape).T
        packed[columns, rows] = (codes[::2] | codes[1::2] << 4).reshape(-1, *shape).transpose(2, 1, 0)

    places = [(block, start) for block in range(0, blocks, deep) for start in range(0, outputs, wide)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(fit, places):
            pass
    return Quantized(packed, scales, None if scheme.symmetric else _pack(zeros))


def _fit(values: Array, symmetric: bool) -> tuple[Array, Array, Array]:
    """Codes uint8 [size, M], scales and zero points [M] of 4-bit blocks, which stand in the columns of `values`."""
    scale, zero = grid(values, symmetric)
    work = values * (1 / scale)
    np.rint(work, out=work)
    np.add(work, zero, out=work)
    return np.clip(work, 0, 15, out=work).astype(np.uint8), scale, zero.astype(np.uint8)


def grid(values: Array, symmetric: bool, weights: Array | None = None) -> tuple[Array, Array]:
    """Scales and zero points, float32 [M], of 4-bit blocks, which stand in the columns of `values` [size, M]; `weights`
    float32 [size] say how much each row's squared error counts.

    With d = q - zero point, the best scale for given codes is Σxd / Σd², and the squared error it leaves is
    Σx² - (Σxd)² / Σd²: so the candidate with the greatest (Σxd)² / Σd² wins (linear least squares). First the whole
    span is tried on each place that it could have on the grid, then narrower spans on the best of these places.
    """
    roots = None if weights is None else np.sqrt(weights)[:, None]
    count = values.shape[1]
    low, high = np.minimum(values.min(0), 0), np.maximum(values.max(0), 0)
    best = _Best(
        np.full(count, -1, np.float32),
        np.ones(count, np.float32),
        np.ones(count, np.float32),
        np.full(count, 8, np.float32),
    )
    work, counted = np.empty_like(values), values if roots is None else values * roots
    for span, zero in _places(low, high, symmetric):
        _try(values, span, zero, best, work, counted, roots)
    whole, zero = best.span.copy(), best.zero.copy()
    for part in _SPANS:
        _try(values, whole * np.float32(part), zero, best, work, counted, roots)
    best.scale[best.scale == 0] = 1
    return best.scale, best.zero


@dataclass(frozen=True)
class _Best:
    """What the search has found for each block, float32 [M]: the gain, the step tried, the scale and zero point."""

    gain: Array
    span: Array
    scale: Array
    zero: Array


def _try(
    values: Array, step: Array, zero: Array, best: _Best, work: Array, counted: Array, roots: Array | None
) -> None:
    """Quantise with steps of `step` around `zero`, both [M]; keep what is better than the best so far. `counted`: the
    values times the `roots` of their weights.
    """
    np.multiply(values, 1 / step, out=work)
    np.rint(work, out=work)
    np.clip(work, -zero, 15 - zero, out=work)
    if roots is not None:
        work *= roots
    match = np.einsum("ij,ij->j", counted, work)
    energy = np.maximum(np.einsum("ij,ij->j", work, work), np.float32(1e-30))
    gain = match * match / energy
    better = gain > best.gain
    for kept, found in ((best.gain, gain), (best.span, step), (best.scale, match / energy), (best.zero, zero)):
        np.copyto(kept, found, where=better)


def _places(low: Array, high: Array, symmetric: bool) -> Iterator[tuple[Array, Array]]:
    """Steps and zero points, float32 [M] each, that span a block's extremes; among them that of round-to-nearest."""
    tiny = np.float32(1e-12)
    if symmetric:  # one more step below zero than above: put the larger extreme on either side
        extreme = np.where(high > -low, high, low)
        extreme = np.where(np.abs(extreme) < tiny, tiny, extreme)
        for steps in (-8.0, 8.0, 7.0):
            yield (extreme / np.float32(steps)).astype(np.float32), np.full(low.shape, 8.0, np.float32)
        return
    width = np.maximum(high - low, tiny)
    exact = np.rint(-low / width * np.float32(15))
    for shift in (0, -1, 1):
        yield width / np.float32(15), np.clip(exact + np.float32(shift), 0, 15)


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

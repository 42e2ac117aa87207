"""Weights packed as quantisers pack them, written in numpy from each format's description; and what they stand for.

Each takes a weight [outputs, inputs] and gives its tensors by the last words of their names, and the true floats.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]
Packed = tuple[dict[str, torch.Tensor], torch.Tensor]
#: The sixteen levels of NormalFloat4 (QLoRA, appendix E).
NF4 = (
    -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
)  # fmt: skip


def stream(numbers: Array, bits: int) -> torch.Tensor:
    """Numbers as a stream of bits down each column, the lowest first, in words of 32."""
    each = (numbers[:, None, :].astype(np.int64) >> np.arange(bits)[None, :, None]) & 1
    flat = each.reshape(-1, numbers.shape[1]).astype(np.uint8)
    flat = np.pad(flat, ((0, -len(flat) % 32), (0, 0)))
    words = np.packbits(flat, axis=0, bitorder="little").reshape(-1, 4, numbers.shape[1]).transpose(0, 2, 1)
    return torch.from_numpy(np.ascontiguousarray(words).view("<i4")[..., 0].copy())


def grouped(weight: torch.Tensor, bits: int, group: int, order: Array | None) -> tuple[Array, Array, Array, Array]:
    """Numbers [inputs, outputs], zeros and scales [groups, outputs], and the group of each input."""
    value = weight.float().numpy().T
    index = (np.arange(len(value)) if order is None else order) // group
    most, groups = (1 << bits) - 1, int(index.max()) + 1
    scales = np.zeros((groups, value.shape[1]), np.float16)
    zeros = np.zeros((groups, value.shape[1]), np.int64)
    numbers = np.zeros(value.shape, np.int64)
    for number in range(groups):
        rows = value[index == number]
        low, high = rows.min(axis=0), rows.max(axis=0)
        scales[number] = np.maximum((high - low) / most, 1e-6)
        step = scales[number].astype(np.float32)
        zeros[number] = np.clip(np.round(-low / step), 1, most)
        numbers[index == number] = np.clip(np.round(rows / step) + zeros[number], 0, most)
    return numbers, zeros, scales, index


def floats(numbers: Array, zeros: Array, scales: Array, index: Array) -> torch.Tensor:
    value = scales[index].astype(np.float32) * (numbers - zeros[index]).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(value.T))


def gptq(weight: torch.Tensor, bits: int = 4, group: int = 64, acting: bool = False, offset: int = 1) -> Packed:
    order = np.random.default_rng(3).permutation(weight.shape[1]) if acting else None
    numbers, zeros, scales, index = grouped(weight, bits, group, order)
    parts = {
        "qweight": stream(numbers, bits),
        "qzeros": stream((zeros - offset).T, bits).T.contiguous(),
        "scales": torch.from_numpy(scales),
        "g_idx": torch.from_numpy(index.astype(np.int32)),
    }
    return parts, floats(numbers, zeros, scales, index)


def awq(weight: torch.Tensor, group: int = 64) -> Packed:
    numbers, zeros, scales, index = grouped(weight, 4, group, None)

    def words(value: Array) -> torch.Tensor:
        packed = np.zeros((len(value), value.shape[1] // 8), np.int64)
        for column in range(packed.shape[1]):
            for place, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
                packed[:, column] |= value[:, 8 * column + output] << (4 * place)
        return torch.from_numpy(packed.astype(np.uint32).view(np.int32))

    parts = {"qweight": words(numbers), "qzeros": words(zeros), "scales": torch.from_numpy(scales)}
    return parts, floats(numbers, zeros, scales, index)


def bitsandbytes(weight: torch.Tensor, nested: bool = False, dtype: str = "bfloat16", block: int = 64) -> Packed:
    value, table = weight.float().numpy().reshape(-1), np.array(NF4, np.float32)
    blocks = np.pad(value, (0, -len(value) % block)).reshape(-1, block)
    absmax = np.abs(blocks).max(axis=1).astype(np.float32)
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": block, "dtype": dtype, "shape": list(weight.shape)}
    parts = {"weight.quant_map": torch.from_numpy(table)}
    if nested:
        codes, offset = np.linspace(-1, 1, 256, dtype=np.float32), np.float32(absmax.mean())
        around = np.pad(absmax - offset, (0, -len(absmax) % 256)).reshape(-1, 256)
        outer = np.abs(around).max(axis=1).astype(np.float32)
        places = np.abs((around / outer[:, None])[..., None] - codes).argmin(-1).astype(np.uint8)
        absmax = (codes[places] * outer[:, None]).reshape(-1)[: len(absmax)] + offset
        parts |= {"weight.absmax": torch.from_numpy(places.reshape(-1)[: len(absmax)].copy())}
        parts |= {"weight.nested_absmax": torch.from_numpy(outer), "weight.nested_quant_map": torch.from_numpy(codes)}
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(offset)}
    else:
        parts["weight.absmax"] = torch.from_numpy(absmax)
    codes4 = np.abs((blocks / absmax[:, None])[..., None] - table).argmin(-1)
    true = (table[codes4] * absmax[:, None].astype(np.float32)).reshape(-1)[: len(value)].reshape(weight.shape)
    flat = codes4.reshape(-1)[: len(value)]
    parts["weight"] = torch.from_numpy((flat[0::2] << 4 | flat[1::2]).astype(np.uint8)[:, None].copy())
    said = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
    parts["weight.quant_state.bitsandbytes__nf4"] = said
    return parts, torch.from_numpy(np.ascontiguousarray(true)).to(getattr(torch, dtype)).float()


def int8(weight: torch.Tensor) -> Packed:
    value = weight.float().numpy()
    scales = np.abs(value).max(axis=1).astype(np.float32)
    numbers = np.round(value / scales[:, None] * 127).astype(np.int8)
    parts = {"weight": torch.from_numpy(numbers), "SCB": torch.from_numpy(scales)}
    parts["weight_format"] = torch.tensor(0, dtype=torch.uint8)
    return parts, torch.from_numpy(numbers.astype(np.float32) * scales[:, None] * np.float32(1 / 127))


def fp8(weight: torch.Tensor, block: tuple[int, int] | None = (48, 48), scale: str = "weight_scale_inv") -> Packed:
    """`block` None: one scale for the weight."""
    value = weight.float().numpy()
    rows, columns = block or value.shape
    grid = np.zeros((-(-value.shape[0] // rows), -(-value.shape[1] // columns)), np.float32)
    packed, true = torch.zeros(weight.shape, dtype=torch.float8_e4m3fn), torch.zeros(weight.shape)
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            at = (slice(row * rows, (row + 1) * rows), slice(column * columns, (column + 1) * columns))
            grid[row, column] = np.abs(value[at]).max() / 448
            packed[at] = torch.from_numpy(value[at] / grid[row, column]).to(torch.float8_e4m3fn)
            true[at] = packed[at].float() * float(grid[row, column])
    parts = {"weight": packed, scale: torch.from_numpy(grid if block else grid.reshape(()))}
    return parts | {"activation_scale": torch.tensor(0.5)}, true


def mxfp8(weight: torch.Tensor) -> Packed:
    """A power of two for 32 inputs, as the byte that is its exponent plus 127."""
    value = weight.float().numpy().reshape(weight.shape[0], -1, 32)
    exponents = np.ceil(np.log2(np.abs(value).max(axis=2) / 448))
    packed = torch.from_numpy(value / 2.0 ** exponents[..., None]).to(torch.float8_e4m3fn)
    true = packed.float() * torch.from_numpy(2.0 ** exponents[..., None]).float()
    scales = torch.from_numpy((exponents + 127).astype(np.uint8))
    return {"weight": packed.reshape(weight.shape), "weight_scale_inv": scales}, true.reshape(weight.shape)

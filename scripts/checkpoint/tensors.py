"""The numbers in safetensors files, read a piece at a time: are they numbers, are two tensors one, under another name.

Whatever the model weighs, what is held of it is a mebibyte.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scripts.checkpoint.headers import Tensor
from scripts.common.errors import IngotError
from scripts.results.remarks import Remark

_PIECE = 1 << 20  # bytes; fits a processor's cache, so that each is read from memory once
#: By dtype, the unsigned integer of its width and the exponent's bits: all of them set is an infinity or a NaN.
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}


def judge_numbers(places: Mapping[str, Path], tensors: Mapping[str, Tensor]) -> list[Remark]:
    """Look at every number. Raises `IngotError` that names the first tensor with a NaN or an infinity in it.

    A matrix that is zero everywhere is a remark: a merge or a gathering of shards may have left it so.
    """
    zero = []
    for name, path in places.items():
        width, exponent = _EXPONENTS.get(tensors[name].dtype, (np.uint8, 0))
        if not exponent:
            continue
        greatest = 0  # exponent: none stands for zero, and for what is hardly more
        for piece in pieces(path, tensors[name]):
            greatest = max(greatest, int((piece.view(width) & width(exponent)).max()))
            if greatest == exponent:
                found = f"{name} holds a number that is not finite (NaN or infinity)"
                raise IngotError(
                    path, found, "Its training diverged or the file is damaged: take an earlier checkpoint"
                )
        if not greatest and len(tensors[name].shape) > 1:
            zero.append(name)
    more = f" and {len(zero) - 1} more matrices" if len(zero) > 1 else ""
    return [Remark(zero[0], f"is zero everywhere{more}")] if zero else []


def same(first: tuple[Path, Tensor], second: tuple[Path, Tensor]) -> bool:
    """Whether two tensors are the same, byte for byte."""
    if first[1] != second[1]:
        return False
    pairs = zip(pieces(*first), pieces(*second), strict=True)
    return all(bool(np.array_equal(one, other)) for one, other in pairs)


def write_renamed(source: Path, target: Path, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Write the `tensors` of `source` to `target` as they are, each under its name in `names` if it has one."""
    kept = sorted(tensors.items(), key=lambda item: item[1].start)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in kept:
        size = tensor.end - tensor.start
        entry = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        header[names.get(name, name)] = entry
        at += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in kept:
            for piece in pieces(source, tensor):
                file.write(piece.tobytes())


def pieces(path: Path, tensor: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
    """The bytes of a tensor, a mebibyte at a time."""
    with path.open("rb") as file:
        file.seek(tensor.start)
        left = tensor.end - tensor.start
        while left:
            piece = np.fromfile(file, dtype=np.uint8, count=min(left, _PIECE))
            if not len(piece):
                raise IngotError(path, "became shorter while it was read", "Let nothing write there and start again")
            left -= len(piece)
            yield piece

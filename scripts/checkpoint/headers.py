"""What a weights file says about itself, read without loading a tensor.

Formats: safetensors (github.com/huggingface/safetensors, "Format": 8 bytes little-endian header length, a JSON
header, the data) and GGUF (github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from scripts.common.errors import IngotError

#: Bytes of one element by safetensors dtype.
SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1),
}
#: (elements, bytes) of one block by GGML tensor type.
BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    28: (1, 8),  # F64
    29: (256, 56),  # IQ1_M
    30: (1, 2),  # BF16
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
}
#: Types that no weights of a model here are of, so that where they end is not checked: Q8_1, Q8_K, whole numbers,
#: NVFP4, Q1_0. The gguf package knows no others.
_UNCHECKED = frozenset({9, 15, 24, 25, 26, 27, 40, 41})
#: GGUF's value types: the two with a length, and `struct`'s letter for each of the others.
STRING, ARRAY = 8, 9
SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
FETCH_AGAIN = "Fetch or save the file again"
#: Bytes of a header: safetensors' own limit, and more than twice of what the largest vocabulary takes in a GGUF file.
_MOST_HEADER, _MOST_GGUF_HEADER = 100_000_000, 128 << 20
#: Of a GGUF file: pairs of metadata, tensors, entries of a list of texts (tokens and merges are the longest).
_MOST_PAIRS, _MOST_TENSORS, _MOST_TEXTS = 1 << 16, 1 << 20, 1 << 22
_MOST_DIMENSIONS = 16
_Size = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Tensor:
    """One tensor's element type, as its format names it, and its shape, outermost dimension first.

    `start` and `end` say where in its file the bytes of it lie; only safetensors' are told.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Gguf:
    """A GGUF file's metadata (an array is represented by its length) and tensors by their GGUF names."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, after holding header and offsets against the size of the file.

    Raises `IngotError` where the file is missing, empty, truncated or something else.
    """
    if not path.is_file():
        raise IngotError(path, "weights file not found", FETCH_AGAIN)
    size = path.stat().st_size
    if size == 0:
        raise IngotError(path, "empty, 0 bytes", FETCH_AGAIN)
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if _MOST_HEADER < length <= size - 8 and start[:1] != b"{":
            found = f"not a safetensors file: a header of {length} bytes, where {_MOST_HEADER} are the limit"
            raise IngotError(path, found, FETCH_AGAIN)
        header = file.read(length) if 2 <= length <= size - 8 else b""
    if start.startswith(b"version "):
        raise IngotError(path, "a Git LFS pointer, not the weights", "Run `git lfs pull` there")
    if not header:
        found = f"truncated: {size} bytes, its header alone needs {length + 8}"
        raise IngotError(path, found if start[:1] != b"{" else "not a safetensors file", FETCH_AGAIN)
    tensors, end = _parse_header(path, header, 8 + length)
    if end != size - 8 - length:
        relation = "truncated" if end > size - 8 - length else "longer than its header says"
        raise IngotError(path, f"{relation}: {size} bytes where {8 + length + end} are due", FETCH_AGAIN)
    return tensors


class _Entry(Struct, gc=False):
    """What a safetensors header says of a tensor."""

    dtype: str
    shape: Annotated[tuple[_Size, ...], Meta(max_length=_MOST_DIMENSIONS)]
    data_offsets: tuple[_Size, _Size]


_ENTRY = msgspec.json.Decoder(_Entry)


def _parse_header(path: Path, header: bytes, data: int) -> tuple[dict[str, Tensor], int]:
    """Tensors by name, and where the data ends counted from where it begins, in bytes."""
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        entries = {name: _ENTRY.decode(entry) for name, entry in raw.items()}
    except (ValueError, RecursionError) as error:
        raise IngotError(path, f"not a safetensors file: unreadable header ({error})", FETCH_AGAIN) from None
    tensors: dict[str, Tensor] = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        first, last = entry.data_offsets
        tensor = Tensor(entry.dtype, entry.shape, data + first, data + last)
        width = SIZES.get(tensor.dtype)
        if first != end or last < first or (width and last - first != tensor.elements * width):
            raise IngotError(path, f"damaged: tensor {name} does not fill its place in the file", FETCH_AGAIN)
        tensors[name], end = tensor, last
    if not tensors:
        raise IngotError(path, "holds no tensor", FETCH_AGAIN)
    return tensors, end


def read_gguf(path: Path) -> Gguf:
    """The metadata and tensors of a GGUF file (versions 2 and 3), after holding its size against its tensors.

    Raises `IngotError` where the file is missing, empty, truncated or something else.
    """
    if not path.is_file():
        raise IngotError(path, "GGUF file not found", "Correct the path")
    if path.stat().st_size == 0:
        raise IngotError(path, "empty, 0 bytes", FETCH_AGAIN)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise IngotError(path, "not a GGUF file", FETCH_AGAIN)
        try:
            return _Reader(data, path).read()
        except (struct.error, IndexError, OverflowError, UnicodeDecodeError):
            raise IngotError(path, "truncated within its header", FETCH_AGAIN) from None


class _Reader:
    """Walks the header of a GGUF file from its start."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at = data, path, 4

    def read(self) -> Gguf:
        version = self._number("I")
        if version not in (2, 3):
            raise IngotError(self.path, f"GGUF version {version}", "Versions 2 and 3 are read; convert it again")
        tensor_count, pair_count = self._number("Q"), self._number("Q")
        self._limit("tensors", tensor_count, _MOST_TENSORS)
        self._limit("pairs of metadata", pair_count, _MOST_PAIRS)
        metadata: dict[str, Any] = {}
        for _ in range(pair_count):
            key = self._string()
            metadata[key] = self._value(self._number("I"))
        tensors, end = self._tensors(tensor_count)
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1:
            raise IngotError(self.path, f"damaged: its alignment is {alignment!r}", FETCH_AGAIN)
        due = math.ceil(self.at / alignment) * alignment + end
        if due > len(self.data):
            raise IngotError(self.path, f"truncated: {len(self.data)} bytes where {due} are due", FETCH_AGAIN)
        return Gguf(metadata, tensors)

    def _tensors(self, count: int) -> tuple[dict[str, Tensor], int]:
        """Tensors by name, and where the data ends counted from where it begins, in bytes."""
        tensors: dict[str, Tensor] = {}
        places = []
        for _ in range(count):
            name = self._string()
            dimensions = self._number("I")
            self._limit("dimensions", dimensions, _MOST_DIMENSIONS)
            shape = tuple(reversed([self._number("Q") for _ in range(dimensions)]))
            kind, offset = self._number("I"), self._number("Q")
            if name in tensors:
                raise IngotError(self.path, f"damaged: two tensors called {name}", FETCH_AGAIN)
            if kind not in BLOCKS and kind not in _UNCHECKED:
                found = f"tensor {name} is of the unknown type {kind}"
                raise IngotError(self.path, found, "Convert it to one that is known, such as Q8_0 or F16")
            tensors[name] = Tensor(str(kind), shape)
            if not shape or not tensors[name].elements:
                raise IngotError(self.path, f"damaged: tensor {name} holds no number", FETCH_AGAIN)
            elements, width = BLOCKS.get(kind, (1, 0))
            places.append((offset, offset + tensors[name].elements // elements * width, name))
        places.sort()
        for (_, end, name), (start, _, other) in pairwise(places):
            if start < end:
                raise IngotError(self.path, f"damaged: tensors {name} and {other} overlap", FETCH_AGAIN)
        return tensors, max((end for _, end, _ in places), default=0)

    def _number(self, code: str) -> Any:
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def _string(self) -> str:
        length = self._number("Q")
        self.at += length
        if self.at > len(self.data):
            raise IndexError
        self._limit("bytes of header", self.at, _MOST_GGUF_HEADER)
        return self.data[self.at - length : self.at].decode()

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            if kind not in SCALARS:
                raise IngotError(self.path, f"damaged: metadata of unknown type {kind}", FETCH_AGAIN)
            return self._number(SCALARS[kind])
        inner, count = self._number("I"), self._number("Q")
        if inner in SCALARS:
            self.at += count * struct.calcsize("<" + SCALARS[inner])
        else:
            if inner == ARRAY:
                raise IngotError(self.path, "damaged: metadata with arrays in arrays", FETCH_AGAIN)
            self._limit("texts in a list", count, _MOST_TEXTS)
            for _ in range(count):
                self._value(inner)
        return count

    def _limit(self, what: str, count: int, most: int) -> None:
        if count > most:
            raise IngotError(self.path, f"damaged: {count} {what}, where {most} are the limit", FETCH_AGAIN)

"""Write a checkpoint's quantised weights as floats, one weight at a time: no more than one is ever in memory."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from scripts.checkpoint import tensors as numbers
from scripts.checkpoint.headers import SIZES, Tensor, read_safetensors
from scripts.checkpoint.packed import FLOAT_REMEDY, Packed
from scripts.checkpoint.quantised import Quantised
from scripts.checkpoint.weights import Checkpoint
from scripts.common.errors import IngotError


def write(checkpoint: Checkpoint, folder: Path, useless: Collection[str] = ()) -> Checkpoint:
    """The checkpoint with float weights, in files of their own in `folder`, which is made; nothing else is there.

    A file holds what the file of the same name held, without biases that are `useless` to the model, and zero. Raises
    `IngotError` that names a weight which can't be read.
    """
    quantised = checkpoint.quantised
    assert quantised is not None
    print(f"checkpoint: de-quantising {len(quantised.packed)} weights ({quantised.method})", flush=True)
    folder.mkdir()
    dropped = quantised.spare & set(useless)
    _refuse_numbers(checkpoint, dropped)
    reader = _Reader(checkpoint, quantised)
    files: list[Path] = []
    held: dict[str, Tensor] = {}
    places: dict[str, Path] = {}
    for source in checkpoint.weights:
        names = [name for name, place in checkpoint.places.items() if place == source and name not in dropped]
        own = {name: checkpoint.tensors[name] for name in sorted(names)}
        if own:
            target = folder / source.name
            _write_file(target, source, own, reader)
            files.append(target)
            held |= read_safetensors(target)
            places |= dict.fromkeys(own, target)
    return dataclasses.replace(checkpoint, weights=tuple(files), tensors=held, places=places, index=None)


def _refuse_numbers(checkpoint: Checkpoint, biases: Collection[str]) -> None:
    """Raise `IngotError` where a bias that the model has no place for is not zero."""
    for name in biases:
        if any(piece.any() for piece in numbers.pieces(checkpoint.places[name], checkpoint.tensors[name])):
            found = f"{name} is not zero, and the model of its config has no place for it"
            raise IngotError(checkpoint.places[name], found, FLOAT_REMEDY)


def _write_file(target: Path, source: Path, own: Mapping[str, Tensor], reader: _Reader) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in own.items():
        size = tensor.elements * SIZES[tensor.dtype]
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in own.items():
            if name in reader.packed:
                file.write(reader.read(name))
            else:
                for piece in numbers.pieces(source, tensor):
                    file.write(piece.tobytes())


class _Reader:
    """Reads packed weights, by whatever knows their format."""

    def __init__(self, checkpoint: Checkpoint, quantised: Quantised) -> None:
        self.packed, self._quantised, self._checkpoint = quantised.packed, quantised, checkpoint
        self._schemes: Any = None

    def read(self, name: str) -> memoryview:
        """The bytes of a weight as floats."""
        import torch

        weight = self.packed[name]
        try:
            value = self._unpack(name, weight).contiguous()
        except (ValueError, KeyError, IndexError, RuntimeError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            found = f"{name} can't be de-quantised from {weight.options['called']} ({reason})"
            raise IngotError(self._checkpoint.places[name], found, FLOAT_REMEDY) from None
        if tuple(value.shape) != weight.floats.shape:
            found = f"{name} is de-quantised to {list(value.shape)}, where {list(weight.floats.shape)} is due"
            raise IngotError(self._checkpoint.places[name], found, FLOAT_REMEDY)
        return memoryview(value.flatten().view(torch.uint8).numpy())

    def _unpack(self, name: str, weight: Packed) -> Any:
        from safetensors import safe_open

        from scripts.checkpoint import unpack

        parts = {}
        for part, full in weight.parts.items():
            with safe_open(self._quantised.held[full], "pt") as file:
                parts[part] = file.get_tensor(full)
        if weight.kind == "compressed-tensors":
            if self._schemes is None:
                from scripts.checkpoint.compressed import Schemes

                self._schemes = Schemes(self._quantised.settings)
            return self._schemes.decompress(name.removesuffix(".weight"), parts)
        by_kind = {
            "gptq": unpack.gptq, "awq": unpack.awq, "bitsandbytes-4": unpack.four_bits,
            "bitsandbytes-8": unpack.eight_bits, "fp8": unpack.fp8,
        }  # fmt: skip
        return by_kind[weight.kind](parts, weight.options)

"""One quantised weight in its several tensors, by the names and shapes of each format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.checkpoint.headers import Tensor
from scripts.checkpoint.layout import Layout
from scripts.common.errors import IngotError

FLOAT_REMEDY = "Name the float checkpoint it was made of"
_SAVE_AGAIN = "Fetch the checkpoint again: a part of a quantised weight is not as its format has it"
_FP8 = ("F8_E4M3", "F8_E5M2")
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_GPTQ_BITS = (2, 3, 4, 8)


@dataclass(frozen=True)
class Packed:
    """One weight in several tensors: `kind` says how, `parts` are those tensors by the last words of their names.

    `floats` is its element type and shape once de-quantised; `options` is what the format must be told besides.
    """

    kind: str
    parts: Mapping[str, str]
    floats: Tensor
    options: Mapping[str, Any]


def gptq(name: str, layout: Layout, offset: int) -> Packed:
    parts = _parts(name, layout, ("qweight", "qzeros", "scales"), ("g_idx",))
    words, zeros, scales = (layout.tensors[parts[part]].shape for part in ("qweight", "qzeros", "scales"))
    order = layout.tensors[parts["g_idx"]].shape if "g_idx" in parts else None
    flat = len(words) == len(zeros) == len(scales) == 2
    bits = next((b for b in _GPTQ_BITS if flat and zeros[1] == -(-scales[1] * b // 32)), 0)
    inputs = words[0] * 32 // bits if bits else 0
    if not bits or words[1] != scales[1] or zeros[0] != scales[0] or order not in (None, (inputs,)):
        raise _odd(name, layout, parts)
    options = {"bits": bits, "offset": offset, "called": f"GPTQ, {bits} bits"}
    return Packed("gptq", parts, Tensor("F32", (scales[1], inputs)), options)


def awq(name: str, layout: Layout) -> Packed:
    parts = _parts(name, layout, ("qweight", "qzeros", "scales"))
    words, zeros, scales = (layout.tensors[parts[part]].shape for part in ("qweight", "qzeros", "scales"))
    if not (len(words) == len(zeros) == len(scales) == 2) or words[1] * 8 != scales[1] or zeros != (
        scales[0], words[1],
    ) or words[0] % scales[0]:  # fmt: skip
        raise _odd(name, layout, parts)
    return Packed("awq", parts, Tensor("F32", (scales[1], words[0])), {"called": "AWQ, 4 bits"})


def four_bits(layout: Layout) -> dict[str, Packed]:
    """bitsandbytes' 4 bits: what its format needs besides the tensors is JSON in one of them."""
    found = {}
    for name in layout.tensors:
        weight, _, kind = name.partition(".quant_state.bitsandbytes__")
        if not kind:
            continue
        state = _state(layout.places[name], layout.tensors[name])
        nested = "nested_blocksize" in state
        needed = ["", ".absmax", ".quant_map", f".quant_state.bitsandbytes__{kind}"]
        parts = _parts(weight, layout, needed + [".nested_absmax", ".nested_quant_map"] * nested, joint="")
        floats = _of_state(state, {part: layout.tensors[full] for part, full in parts.items()}, nested)
        if floats is None:
            raise _odd(weight, layout, parts)
        options = {**state, "called": f"bitsandbytes, {kind}{' with nested scales' if nested else ''}"}
        found[weight] = Packed("bitsandbytes-4", parts, floats, options)
    return found


def _of_state(state: Mapping[str, Any], parts: Mapping[str, Tensor], nested: bool) -> Tensor | None:
    """The float weight that a state describes; None where its tensors are not of the sizes that follow from it."""
    shape: Any = state.get("shape")
    block: Any = state.get("blocksize")
    dtype = state.get("dtype")
    sizes = [*shape, block] if isinstance(shape, list) else [0]
    sizes += [state["nested_blocksize"]] if nested else []
    if not all(type(size) is int and size > 0 for size in sizes) or dtype not in _DTYPES:
        return None
    floats = Tensor(_DTYPES[dtype], tuple(shape))
    blocks = -(-floats.elements // block)
    due = {".absmax": blocks, ".quant_map": 16}
    due |= {".nested_absmax": -(-blocks // state["nested_blocksize"]), ".nested_quant_map": 256} if nested else {}
    sound = parts[""].end - parts[""].start == -(-floats.elements // 2)
    return floats if sound and all(parts[part].elements == count for part, count in due.items()) else None


def _state(path: Path, tensor: Tensor) -> dict[str, Any]:
    with path.open("rb") as file:
        file.seek(tensor.start)
        try:
            value = json.loads(file.read(min(tensor.end - tensor.start, 1 << 16)))
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def eight_bits(layout: Layout) -> dict[str, Packed]:
    """bitsandbytes' 8 bits: a scale for each row, of which 127 is the unit."""
    found = {}
    for name in layout.tensors:
        if name.endswith(".SCB"):
            module = name.removesuffix(".SCB")
            parts = _parts(module, layout, ("weight", "SCB"), ("weight_format",))
            weight, scales = layout.tensors[parts["weight"]], layout.tensors[parts["SCB"]]
            if weight.dtype != "I8" or len(weight.shape) != 2 or scales.shape != weight.shape[:1]:
                raise _odd(module, layout, parts)
            floats = Tensor("F32", weight.shape)
            found[f"{module}.weight"] = Packed("bitsandbytes-8", parts, floats, {"called": "bitsandbytes, int8"})
    return found


def scaled(settings: Mapping[str, Any], layout: Layout) -> dict[str, Packed]:
    """Fp8: one scale for a weight, for each of its rows, or for each of its blocks."""
    found = {}
    for name, tensor in layout.tensors.items():
        module = name.removesuffix(".weight")
        scale = next((s for s in ("weight_scale_inv", "weight_scale") if f"{module}.{s}" in layout.tensors), None)
        if tensor.dtype in _FP8 and module != name and scale:
            parts = {"weight": name, "scale": f"{module}.{scale}"}
            grid = _grid(tensor.shape, layout.tensors[parts["scale"]].shape, settings.get("weight_block_size"))
            if grid is None:
                raise _odd(module, layout, parts)
            shown = "one scale a weight" if grid == tensor.shape else f"scales for {grid[0]} x {grid[1]}"
            options = {"block": grid, "called": f"fp8 ({tensor.dtype.removeprefix('F8_')}, {shown})"}
            found[name] = Packed("fp8", parts, Tensor("F32", tensor.shape), options)
    return found


def _grid(weight: tuple[int, ...], scale: tuple[int, ...], said: object) -> tuple[int, int] | None:
    """The rows and columns that one scale is for; None where the shapes and what is said leave it open."""
    if len(weight) != 2:
        return None
    rows, columns = weight
    if scale in ((), (1,), (1, 1)):
        return rows, columns
    if scale in ((rows,), (rows, 1)):
        return 1, columns
    if len(scale) != 2 or 0 in scale:
        return None
    block = tuple(said) if isinstance(said, list) and len(said) == 2 else None
    if block is None and not rows % scale[0] and not columns % scale[1]:
        block = (rows // scale[0], columns // scale[1])
    if block is None or not all(type(size) is int and size > 0 for size in block):
        return None
    return block if (-(-rows // block[0]), -(-columns // block[1])) == scale else None


def compressed(settings: Mapping[str, Any], layout: Layout) -> dict[str, Packed]:
    """compressed-tensors: its library knows its formats; here only what belongs to one weight, and its shape."""
    found = {}
    for name, tensor in layout.tensors.items():
        module, _, last = name.rpartition(".")
        scale = f"{module}.weight_scale"
        if last not in ("weight", "weight_packed") or scale not in layout.tensors:
            continue
        start = f"{module}.weight"
        parts = {part.removeprefix(f"{module}."): part for part in layout.tensors if part.startswith(start)}
        shape: tuple[int, ...] | None = tensor.shape
        if last == "weight_packed":
            stored = f"{module}.weight_shape"
            if stored in layout.tensors:
                shape = _stored_shape(layout.places[stored], layout.tensors[stored])
            else:  # two numbers of 4 bits to a byte: nvfp4, mxfp4
                shape = (*tensor.shape[:-1], 2 * tensor.shape[-1]) if tensor.dtype == "U8" else None
        if shape is None or len(shape) != 2:
            raise _odd(module, layout, parts)
        form = settings.get("format") or "a format of its own"
        found[f"{module}.weight"] = Packed(
            "compressed-tensors", parts, Tensor("F32", shape), {"called": f"compressed-tensors ({form})"}
        )
    return found


def _stored_shape(path: Path, tensor: Tensor) -> tuple[int, ...] | None:
    width = {"I64": 8, "I32": 4}.get(tensor.dtype)
    if width is None or tensor.elements > 4:
        return None
    with path.open("rb") as file:
        file.seek(tensor.start)
        data = file.read(tensor.end - tensor.start)
    sizes = tuple(int.from_bytes(data[at : at + width], "little", signed=True) for at in range(0, len(data), width))
    return sizes if all(0 < size < 1 << 26 for size in sizes) else None


def _parts(
    start: str, layout: Layout, needed: Iterable[str], more: Iterable[str] = (), *, joint: str = "."
) -> dict[str, str]:
    """The tensors of one weight by their last words; `IngotError` where one that it needs is missing."""
    names = {part: f"{start}{joint}{part}" for part in (*needed, *more)}
    for part in needed:
        if names[part] not in layout.tensors:
            there = next(path for name, path in layout.places.items() if name.startswith(start))
            raise IngotError(there, f"quantised weight {start} lacks {names[part]}", _SAVE_AGAIN)
    return {part: name for part, name in names.items() if name in layout.tensors}


def _odd(name: str, layout: Layout, parts: Mapping[str, str]) -> IngotError:
    shapes = ", ".join(f"{part.lstrip('.') or 'weight'} {list(layout.tensors[parts[part]].shape)}" for part in parts)
    file = layout.places[next(iter(parts.values()))]
    return IngotError(file, f"quantised weight {name} does not make sense: {shapes}", _SAVE_AGAIN)

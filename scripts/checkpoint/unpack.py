"""Quantised weights as the floats that they stand for, one weight at a time.

Formats, each from the code of the tool that defines it:
GPTQ (github.com/AutoGPTQ/AutoGPTQ, github.com/ModelCloud/GPTQModel): `qweight` int32 [inputs · bits / 32, outputs] is a
stream of bits down each column, `qzeros` int32 [groups, outputs · bits / 32] one along each row, `scales` [groups,
outputs], `g_idx` int32 [inputs] the group of each input; weight = scale · (q - zero). Where the checkpoint's format is
"gptq" the zeros are stored less one, in "gptq_v2" as they are.
AWQ (github.com/casper-hansen/AutoAWQ, "gemm"): `qweight` int32 [inputs, outputs / 8], `qzeros` int32 [groups,
outputs / 8], both with the eight outputs of a word in the order 0 2 4 6 1 3 5 7; weight = scale · (q - zero).
bitsandbytes (github.com/bitsandbytes-foundation/bitsandbytes, `QuantState`): 4 bits, the higher half of a byte first,
are places in `quant_map`, times `absmax` of their block; a nested absmax is itself a place in a table of 256, times the
absmax of its block, plus an offset. 8 bits: weight = q · SCB / 127, a scale for each row.
Fp8 (DeepSeek's `weight_scale_inv`, and `weight_scale`): weight = number · scale of its block; a scale of type E8M0, or
stored as a byte, is the power of two of it less 127.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

#: Output `order[i]` is in the i-th four bits of an AWQ word.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_ROWS = 1024  # of a matrix at a time, so that what is computed on the way stays small


def gptq(parts: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    """A weight [outputs, inputs] in float32."""
    bits, scales = options["bits"], parts["scales"].float()
    numbers = _stream(parts["qweight"], bits)
    zeros = _stream(parts["qzeros"].T, bits)[: scales.shape[1]].T
    zeros = (zeros + options["offset"]) & ((1 << bits) - 1)
    inputs = len(numbers)
    groups = parts["g_idx"].long() if "g_idx" in parts else torch.arange(inputs) // -(-inputs // len(scales))
    return _grouped(numbers, zeros, scales, groups)


def awq(parts: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    """A weight [outputs, inputs] in float32."""
    del options
    numbers, zeros = (_words(parts[part]) for part in ("qweight", "qzeros"))
    scales = parts["scales"].float()
    groups = torch.arange(len(numbers)) // (len(numbers) // len(scales))
    return _grouped(numbers, zeros, scales, groups)


def four_bits(parts: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    """A weight in the type that its state names: bitsandbytes computes in float32 and rounds to that."""
    absmax = parts[".absmax"]
    if ".nested_absmax" in parts:
        places = absmax.view(torch.uint8).long().flatten()
        scales = parts[".nested_absmax"].float().repeat_interleave(options["nested_blocksize"])[: len(places)]
        absmax = parts[".nested_quant_map"].float()[places] * scales + float(options.get("nested_offset", 0.0))
    data = parts[""].contiguous().flatten().view(torch.uint8)
    places = torch.stack((data >> 4, data & 15), dim=1).flatten().to(torch.int32)
    shape = tuple(options["shape"])
    values = parts[".quant_map"].float()[places][: torch.Size(shape).numel()]
    block = options["blocksize"]
    whole = len(values) // block * block
    values[:whole].view(-1, block).mul_(absmax.float().flatten()[: whole // block, None])
    values[whole:].mul_(absmax.float().flatten()[-1])
    return values.to(getattr(torch, options["dtype"])).reshape(shape)


def eight_bits(parts: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    """A weight [outputs, inputs] in float32."""
    del options
    return parts["weight"].float() * parts["SCB"].float()[:, None] * (1 / 127)


def fp8(parts: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    """A weight [outputs, inputs] in float32."""
    weight, scale = parts["weight"].float(), parts["scale"]
    rows, columns = options["block"]
    factors = (scale.float() - 127).exp2() if scale.dtype == torch.uint8 else scale.float()
    factors = factors.reshape(-(-weight.shape[0] // rows), -1).repeat_interleave(columns, dim=1)[:, : weight.shape[1]]
    for number, row in enumerate(factors):
        weight[number * rows : (number + 1) * rows] *= row
    return weight


def _stream(words: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers of `bits` bits in a stream down each column of int32 words, as uint8."""
    missing = -len(words) % bits
    count = len(words) * 32 // bits
    words = torch.nn.functional.pad(words, (0, 0, 0, missing)).reshape(-1, bits, words.shape[1])
    numbers = torch.empty((len(words), 32, words.shape[2]), dtype=torch.uint8)
    for place in range(32):
        word, start = divmod(place * bits, 32)
        value = (words[:, word] >> start) & ((1 << min(bits, 32 - start)) - 1)
        if start + bits > 32:
            value = value | (words[:, word + 1] << (32 - start))
        numbers[:, place] = value & ((1 << bits) - 1)
    return numbers.reshape(-1, words.shape[2])[:count]


def _words(words: torch.Tensor) -> torch.Tensor:
    """The numbers of 4 bits in AWQ's words, as uint8."""
    numbers = torch.empty((*words.shape, 8), dtype=torch.uint8)
    for place, output in enumerate(_AWQ_ORDER):
        numbers[..., output] = (words >> (4 * place)) & 15
    return numbers.reshape(len(words), -1)


def _grouped(numbers: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """scale · (number - zero), transposed to [outputs, inputs]."""
    weight = torch.empty((numbers.shape[1], numbers.shape[0]), dtype=torch.float32)
    for start in range(0, len(numbers), _ROWS):
        rows = slice(start, start + _ROWS)
        own = groups[rows]
        weight[:, rows] = ((numbers[rows].float() - zeros[own].float()) * scales[own]).T
    return weight

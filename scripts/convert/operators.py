"""The nodes that compute with quantised weights: products (MatMulNBits) and look-ups of rows (GatherBlockQuantized).

Where some of a table's tokens have bits of their own, there is a look-up in each part: a token that stands in another
part asks for this one's first or last row, and what it finds is not chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import onnx
from onnx import TensorProto, helper

from scripts.convert.blockwise import Scheme
from scripts.convert.graph import Writer
from scripts.convert.parts import Part


@dataclass(frozen=True)
class Written:
    """A part of a matrix as it stands in the file: `names` of its tensors, packed, scales and, maybe, zero points."""

    part: Part
    scheme: Scheme
    names: list[str]


def product(
    activations: str, one: Written, shape: tuple[int, int], accuracy_level: int, name: str, output: str
) -> onnx.NodeProto:
    """`activations` [..., K] times `one`, a part of a matrix of `shape` [K, N]."""
    return helper.make_node(
        "MatMulNBits",
        [activations, *one.names],
        [output],
        f"{name}_Q{one.scheme.bits}",
        domain="com.microsoft",
        K=shape[0],
        N=one.part.width(shape[1]),
        bits=one.scheme.bits,
        block_size=one.scheme.block_size,
        accuracy_level=accuracy_level,
    )


def look_up(
    writer: Writer, gather: onnx.NodeProto, shape: tuple[int, int], table: list[Written], places: str | None
) -> list[onnx.NodeProto]:
    """What replaces `gather` from a table of `shape` [tokens, hidden].

    `places`: the tensor that says where each token stands once the parts are put beside each other; None where they are
    in order.
    """
    output, tokens = gather.output[0], gather.input[1]
    if len(table) == 1:
        return _rows(writer, gather, shape, table[0], tokens, output)
    stem, nodes = f"{output}_part", list[onnx.NodeProto]()
    if places is None:
        nodes.append(helper.make_node("Cast", [tokens], [f"{stem}_place"], f"{stem}_place", to=TensorProto.INT32))
    else:
        nodes.append(helper.make_node("Gather", [places, tokens], [f"{stem}_place"], f"{stem}_place"))
    sizes = [one.part.width(shape[0]) for one in table]
    found = ""
    for number, (one, size, start) in enumerate(zip(table, sizes, accumulate([0, *sizes]), strict=False)):
        at = f"{stem}{number}"
        first, last = (
            writer.add(f"{at}_{name}", np.array(value, np.int32))
            for name, value in (("first", start), ("last", size - 1))
        )
        zero = writer.add(f"{at}_zero", np.array(0, np.int32))
        nodes += [
            helper.make_node("Sub", [f"{stem}_place", first], [f"{at}_from"], f"{at}_from"),
            helper.make_node("Max", [f"{at}_from", zero], [f"{at}_least"], f"{at}_least"),
            helper.make_node("Min", [f"{at}_least", last], [f"{at}_row"], f"{at}_row"),
            *_rows(writer, gather, shape, one, f"{at}_row", f"{at}_values"),
        ]
        if found:
            axis = writer.add(f"{at}_axis", np.array([-1], np.int64))
            chosen = output if number == len(table) - 1 else f"{at}_chosen"
            nodes += [
                helper.make_node("GreaterOrEqual", [f"{stem}_place", first], [f"{at}_holds"], f"{at}_holds"),
                helper.make_node("Unsqueeze", [f"{at}_holds", axis], [f"{at}_whole"], f"{at}_whole"),
                helper.make_node("Where", [f"{at}_whole", f"{at}_values", found], [chosen], f"{at}_chosen"),
            ]
            found = chosen
        else:
            found = f"{at}_values"
    return nodes


def _rows(
    writer: Writer, gather: onnx.NodeProto, shape: tuple[int, int], one: Written, index: str, output: str
) -> list[onnx.NodeProto]:
    """Look-up of `index` in one part of a table of `shape` [tokens, hidden]."""
    bits, table = one.scheme.bits, one.names[0]
    name = f"{gather.name}_Q{bits}"
    if output != gather.output[0]:
        name = f"{name}_{output}"
    nodes = []
    if len(writer.tensors[table].dims) > 2:  # a head's, in blocks
        flat = np.array([one.part.width(shape[0]), shape[1] * bits // 8], np.int64)
        size, rows = writer.add(f"{output}_shape", flat), f"{output}_rows"
        nodes.append(helper.make_node("Reshape", [table, size], [rows], f"{name}_Reshape"))
        table = rows
    return [
        *nodes,
        helper.make_node(
            "GatherBlockQuantized",
            [table, index, *one.names[1:]],
            [output],
            name,
            domain="com.microsoft",
            bits=bits,
            block_size=one.scheme.block_size,
            gather_axis=0,
            quantize_axis=1,
        ),
    ]

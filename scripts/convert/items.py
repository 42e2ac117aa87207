"""What a budget of bits is spent on: each matrix of a graph, or part of one, and the schemes that it can have.

Parts are those of `parts.py`, of a head by how often a token is said; where the embedding shares its matrix, both are
rounded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import onnx

from scripts.convert import output_head, parts
from scripts.convert.blockwise import Array, Scheme
from scripts.convert.graph import Graph, room
from scripts.convert.parts import Part

#: Block sizes by bits and whether zero points are stored. The runtime rounds what it multiplies with in blocks of the
#: same size, to 8 bits: beside weights of 8 bits that is most of the error, and larger blocks double it.
_BLOCKS = {(4, False): (16, 32, 64, 128), (4, True): (16, 32, 64, 128), (8, True): (32,)}
#: Bits, block size and symmetry of the scheme whose loss is measured.
REFERENCE = (4, 32, False)
#: Of a name, the number of the layer.
_LAYER = re.compile(r"(?<=[./])\d+(?=[./])")


@dataclass
class Item:
    """A part of a weight that can be quantised: its `shape` [K, N], and the tensor `inputs` that it is multiplied with,
    which a table [N, K] of its own does not have.

    `choices` are (bits in the file, loss in nats, scheme), the fewest bits first.
    """

    weight: str
    part: Part
    shape: tuple[int, int]
    kind: str
    layer: int
    inputs: str = ""
    choices: list[tuple[float, float, Scheme]] = field(default_factory=list)

    def columns(self, weight: Array) -> Array:
        """Of the whole `weight` its own [K, N]."""
        return self.part.of(weight if self.inputs else weight.T)

    def put(self, weight: Array, values: Array) -> None:
        """Replace its own of the whole `weight` by `values` [K, N]."""
        whole = weight if self.inputs else weight.T
        whole[:, slice(None) if self.part.outputs is None else self.part.outputs] = values


def of_nodes(source: Graph, nodes: Sequence[onnx.NodeProto], order: Array | None) -> list[Item]:
    """Those of each weight that MatMuls `nodes` multiply with, in the order of the graph; a head's by `order`, int
    [vocabulary], its tokens from the one that is said most.
    """
    found: dict[str, list[Item]] = {}
    heads = {node.input[1] for node in output_head.of(source.graph)}
    for node in nodes:
        weight = node.input[1]
        inputs, outputs = source.initializers[weight].dims
        layer = _LAYER.search(node.name)
        if weight not in found:
            some = parts.of_node(source, node)
            if weight in heads and order is not None and len(order) == outputs:
                some = parts.of_tokens(node.name, order)
            found[weight] = [
                Item(weight, part, (inputs, part.width(outputs)), f"{_LAYER.sub('N', node.name)} {number}",
                     int(layer[0]) if layer else 0, node.input[0])
                for number, part in enumerate(some)
            ]  # fmt: skip
    return [item for some in found.values() for item in some]


def tables(source: Graph, items: list[Item]) -> set[str]:
    """Those of the weights in which tokens are looked up too; a table of its own joins `items`."""
    made = {name: node for node in source.graph.node for name in node.output}
    known, tied = {item.weight: item for item in items}, set[str]()
    for node in source.graph.node:
        if node.op_type != "Gather" or "input_ids" not in node.input[1:]:
            continue
        table = node.input[0]
        turned = made.get(table)
        weight = turned.input[0] if turned is not None and turned.op_type == "Transpose" else table
        if len(source.consumers[table]) > 1 or not source.is_weight(weight):
            continue
        if weight in known and not known[weight].shape[0] % REFERENCE[1]:
            tied.add(weight)
        elif weight == table and not source.initializers[table].dims[1] % REFERENCE[1]:
            tokens, hidden = source.initializers[table].dims
            items.append(Item(table, Part(table, None), (hidden, tokens), "embedding", 0))
    return tied


def size(shape: tuple[int, int], scheme: Scheme, scale_bits: int) -> float:
    """Bits that a matrix [K, N] takes in the file: packed values, scales, zero points."""
    blocks = -(-shape[0] // scheme.block_size)
    zeros = 0 if scheme.symmetric else -(-blocks * scheme.bits // 8)
    of_output = blocks * scheme.block_size * scheme.bits // 8, blocks * scale_bits // 8, zeros
    return 8.0 * sum(room(shape[1] * count) for count in of_output)


def schemes(item: Item, tied: Collection[str], algorithm: str) -> list[Scheme]:
    """Those that it can have: a table's blocks divide its rows, and a block that does not is half empty at its end."""
    whole = item.weight in tied or not item.inputs
    return [
        Scheme(bits, block, symmetric, algorithm)
        for (bits, symmetric), blocks in _BLOCKS.items()
        for block in blocks
        if not item.shape[0] % block or (block == REFERENCE[1] and not whole)
    ]

"""Which weight of a graph gets which scheme."""

from __future__ import annotations

import fnmatch
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import onnx

from scripts.convert import output_head, parts
from scripts.convert.blockwise import Array, Scheme
from scripts.convert.graph import Graph
from scripts.convert.parts import Part, Split

#: The nodes that choose a token's experts: small, and what a rounded one chooses otherwise is another model.
_ROUTERS = ("*/router/MatMul*", "*/gate/MatMul*", "*_gate/MatMul*")
#: Weights of the matrices that one product is made of, at most. A product less spares a token about 18 µs (the example,
#: 2 cores); reading so many takes twenty times that, and what a product gives stays until all of it is used.
_TOGETHER = 1 << 24


@dataclass(frozen=True)
class Plan:
    """Which weight gets which scheme. Patterns are shell-style and match node names."""

    body: Scheme
    head: Scheme
    accuracy_level: int = 4
    embedding: bool = True
    half_scales: bool = False
    eight_bit_nodes: tuple[str, ...] = ()
    float_nodes: tuple[str, ...] = ()
    #: Of the tokens, this share keeps 8 bits in head and embedding: the first of `order` int [V].
    eight_bit_tokens: float = 0
    order: Array | None = None
    #: By the name of a weight, instead of all else; see `allocation`.
    splits: Mapping[str, Split] = field(default_factory=dict)

    def stays(self, node: onnx.NodeProto) -> bool:
        """Whether a MatMul stays float."""
        return any(fnmatch.fnmatchcase(node.name, pattern) for pattern in (*_ROUTERS, *self.float_nodes))

    def schemes(self, source: Graph) -> list[tuple[onnx.NodeProto, Split]]:
        """Each MatMul that doesn't stay float, with its parts, in the order of the graph."""
        last = heads(source)
        return [
            (node, self.split(source, node, node.output[0] in last))
            for node in matrices(source)
            if not self.stays(node)
        ]

    def split(self, source: Graph, node: onnx.NodeProto, is_head: bool) -> Split:
        """The parts of a MatMul's matrix, and their schemes."""
        weight = node.input[1]
        if is_head or weight in self.splits:
            return self.of_tokens(weight, source.initializers[weight].dims[1])
        return parts.joined((part, self._scheme(node.name, part.name)) for part in parts.of_node(source, node))

    def of_tokens(self, weight: str, tokens: int) -> Split:
        """The parts of a head, or an embedding, of so many tokens; one where its tokens are not those of the logits."""
        if weight in self.splits:
            return self.splits[weight]
        if not self.eight_bit_tokens or self.order is None or len(self.order) != tokens:
            return [(Part(weight, None), self.head)]
        eight, *rest = parts.frequent(weight, self.order, self.eight_bit_tokens)
        scheme = Scheme(8, self.head.block_size, symmetric=True)  # blocks that divide a row where the others' do
        return parts.joined([(eight, scheme), *((part, self.head) for part in rest)])

    def _scheme(self, *names: str) -> Scheme:
        found = (fnmatch.fnmatchcase(name, pattern) for name in names for pattern in self.eight_bit_nodes)
        return self._eight_bits if any(found) else self.body

    @property
    def _eight_bits(self) -> Scheme:
        # With 256 steps neither a zero point nor a smaller block gains anything.
        return Scheme(8, max(self.body.block_size, 32), symmetric=True)


def heads(source: Graph) -> set[str]:
    """What the products give that the logits are made of."""
    return {node.output[0] for node in output_head.of(source.graph)}


def matrices(source: Graph) -> list[onnx.NodeProto]:
    """The MatMuls with a constant weight, in the order of the graph."""
    return [node for node in source.graph.node if node.op_type == "MatMul" and source.is_weight(node.input[1])]


def is_calibrated(scheme: Scheme) -> bool:
    """Whether a scheme needs to see what its matrix is multiplied with; with 8 bits, rounding to nearest will do."""
    return scheme.algorithm == "gptq" and scheme.bits == 4


def beside(source: Graph, splits: list[tuple[onnx.NodeProto, Split]]) -> dict[str, list[onnx.NodeProto]]:
    """Those of the MatMuls that can be one product, by the output of each: matrices of one scheme that one thing is
    multiplied with, read by nothing else, and none of them a head. In the order of the graph, no more than
    `_TOGETHER` weights in one: experts that are computed side by side all have the same input.
    """
    last, found = heads(source), defaultdict[tuple[str, Scheme], list[list[onnx.NodeProto]]](list)
    room = Counter[tuple[str, Scheme]]()
    for node, split in splits:
        if len(split) > 1 or node.output[0] in last or len(source.consumers[node.input[1]]) > 1:
            continue
        key, size = (node.input[0], split[0][1]), prod(source.initializers[node.input[1]].dims)
        if size > room[key]:
            found[key].append([])
            room[key] = _TOGETHER
        found[key][-1].append(node)
        room[key] -= size
    return {node.output[0]: group for groups in found.values() for group in groups for node in group}

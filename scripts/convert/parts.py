"""Outputs of one matrix that have bits of their own, since the model feels their rounding differently.

- An exporter joins the matrices of queries, keys and values in one. Values stand for themselves and need more bits than
  what only says where to look.
- A head gives every token's logit, and an embedding that shares it every token's row; but a model says few of its
  tokens, and most of them next to never. What is seldom said may be wrong by more.

A matrix in parts becomes one product for each scheme, and a Concat of these; where their outputs are not in order, a
Gather puts them back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx

from scripts.convert.blockwise import Array, Scheme
from scripts.convert.graph import Graph

#: What the builder calls a matrix of all three; and each of them.
_JOINED, _SINGLE = "qkv", ("q", "k", "v")
#: A head's parts end at these shares of the vocabulary, in whole blocks of so many tokens.
_SHARES, _TOKENS = (1 / 16, 1 / 8, 1 / 4, 1 / 2), 32


@dataclass(frozen=True)
class Part:
    """Some `outputs` of a matrix [K, N]: int64 [n], ascending; None stands for all of them. `name`: what the node that
    gives these alone would be called.
    """

    name: str
    outputs: Array | None

    def of(self, weight: Array) -> Array:
        """Its columns of `weight` [K, N]: a view, where they are beside each other."""
        if self.outputs is None:
            return weight
        first, last = int(self.outputs[0]), int(self.outputs[-1])
        return weight[:, first : last + 1] if last - first + 1 == len(self.outputs) else weight[:, self.outputs]

    def width(self, whole: int) -> int:
        """How many outputs it has, of a matrix with `whole`."""
        return whole if self.outputs is None else len(self.outputs)


#: A matrix, part by part, each with its scheme.
Split = list[tuple[Part, Scheme]]


def of_node(source: Graph, node: onnx.NodeProto) -> list[Part]:
    """Queries, keys and values of the MatMul that gives all three; the whole of any other."""
    attention = _attention(source, node)
    if attention is None:
        return [Part(node.name, None)]
    given = {attribute.name: attribute.i for attribute in attention.attribute}
    queries, pairs = given["num_heads"], given["kv_num_heads"]
    outputs = source.initializers[node.input[1]].dims[1]
    size, rest = divmod(outputs, queries + 2 * pairs)
    if rest:
        return [Part(node.name, None)]
    ends = np.cumsum([0, queries * size, pairs * size, pairs * size])
    return [
        Part(_named(node.name, letter), np.arange(start, stop, dtype=np.int64))
        for letter, (start, stop) in zip(_SINGLE, pairwise(ends), strict=True)
    ]


def _attention(source: Graph, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The attention of which `node` gives queries, keys and values in one, a bias added at the most: it reads them so,
    or from a Split, where queries and keys are normalised first.
    """
    name = node.output[0]
    for _ in range(2):
        readers = source.consumers[name]
        if len(readers) != 1:
            return None
        (reader,) = readers
        if reader.op_type == "GroupQueryAttention":
            return reader if reader.input[0] == name and not any(reader.input[1:3]) else None
        if reader.op_type == "Split":
            return _of_values(source, reader)
        if reader.op_type != "Add" or not any(given in source.initializers for given in reader.input):
            return None
        name = reader.output[0]
    return None


def _of_values(source: Graph, split: onnx.NodeProto) -> onnx.NodeProto | None:
    """The attention that takes the last of three outputs as its values."""
    readers = source.consumers[split.output[-1]] if len(split.output) == len(_SINGLE) else []
    if len(readers) != 1 or readers[0].op_type != "GroupQueryAttention":
        return None
    return readers[0] if readers[0].input[2] == split.output[-1] else None


def _named(name: str, letter: str) -> str:
    return name.replace(_JOINED, letter) if _JOINED in name else f"{name}/{letter}_proj/"


def of_tokens(name: str, order: Array) -> list[Part]:
    """A head, or an embedding, in a few parts: `order` int [V] is every token, the most frequent first."""
    ends = [round(len(order) * share) // _TOKENS * _TOKENS for share in _SHARES]
    places = sorted({0, len(order), *ends})
    return [Part(name, np.sort(order[start:stop])) for start, stop in pairwise(places)]


def frequent(name: str, order: Array, share: float) -> list[Part]:
    """A head, or an embedding, in two parts: of `order` int [V] the first `share`, and the others. One that would hold
    nothing is left out.
    """
    count = min(-(-round(len(order) * share) // _TOKENS) * _TOKENS, len(order))
    return [Part(name, np.sort(some)) for some in (order[:count], order[count:]) if len(some)]


def joined(split: Iterable[tuple[Part, Scheme]]) -> Split:
    """One part for each scheme, in the order in which they come."""
    found: dict[Scheme, list[Part]] = {}
    for part, scheme in split:
        found.setdefault(scheme, []).append(part)
    if len(found) == 1:
        ((scheme, parts),) = found.items()
        return [(Part(parts[0].name, None), scheme)]
    return [
        (
            Part(parts[0].name, np.sort(np.concatenate([part.outputs for part in parts if part.outputs is not None]))),
            scheme,
        )
        for scheme, parts in found.items()
    ]


def places(split: Split, outputs: int) -> Array | None:
    """Where each of the `outputs` stands once the parts are put beside each other, int32 [N]; None where in order."""
    if len(split) == 1:
        return None
    order = np.concatenate([part.outputs for part, _ in split if part.outputs is not None])
    if np.array_equal(order, np.arange(outputs)):
        return None
    found = np.empty(outputs, np.int32)
    found[order] = np.arange(outputs, dtype=np.int32)
    return found

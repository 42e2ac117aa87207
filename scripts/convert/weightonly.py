"""Weight-only quantisation of a float ONNX GenAI graph: MatMul to MatMulNBits, embeddings to GatherBlockQuantized.

Tied embeddings stay tied. The builder's float graph reads the output head [hidden, vocabulary] twice: as the right
side of the last MatMul and, transposed, as the table of the embedding's Gather. Its quantised form [vocabulary,
blocks, bytes] is already one row per token, so a Reshape to [vocabulary, bytes of a row] makes it the table of a
GatherBlockQuantized: one copy serves both, with the same scales and zero points. Blocks must divide the hidden size
for that, as GatherBlockQuantized knows no padding; where they don't, the table stays float.

An embedding of its own (untied) becomes a GatherBlockQuantized with as many bits as the head.

Some outputs of a matrix may have bits of their own (`parts.py`): it becomes several, whose products are put together.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper

from scripts.convert import blockwise, output_head, parts
from scripts.convert.blockwise import Array, Quantized, Scheme
from scripts.convert.graph import Graph, Writer, release
from scripts.convert.parts import Part, Split

#: The nodes that choose a token's experts: small, and what a rounded one chooses otherwise is another model.
_ROUTERS = ("*/router/MatMul*", "*/gate/MatMul*", "*_gate/MatMul*")


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


@dataclass(frozen=True)
class Written:
    """A part of a matrix as it stands in the file: `names` of its tensors, packed, scales and, maybe, zero points."""

    part: Part
    scheme: Scheme
    names: list[str]


class Calibrated(Protocol):
    """What quantises by what a matrix is multiplied with: `scripts.convert.calibration`, for recipes that name gptq."""

    def quantize(self, activations: str, weight: Array, scheme: Scheme) -> Quantized:
        """Quantise `weight` [K, N], which the tensor called `activations` is multiplied with."""


#: Makes one for a graph, its path, and the widths K of activations by name and block size; it tells of its progress.
Calibrate = Callable[[Graph, Path, dict[tuple[str, int], int], Callable[[str], None]], Calibrated]
#: Chooses the schemes of each weight of a graph, by its name: `scripts.convert.allocation`.
Allocate = Callable[[Graph, Path, Plan, Callable[[str], None]], Mapping[str, Split]]
#: Every token of a graph's logits, int64 [V], the most frequent first: `scripts.convert.frequency`.
Order = Callable[[Graph, Path, Callable[[str], None]], Array]


class Rewrite:
    """One pass over one graph; `run` writes the result. `calibrated` is needed where a scheme is "gptq"."""

    def __init__(
        self,
        source: Graph,
        writer: Writer,
        plan: Plan,
        progress: Callable[[str], None],
        calibrated: Calibrated | None = None,
    ) -> None:
        self.source, self.writer, self.plan, self.progress = source, writer, plan, progress
        self.calibrated = calibrated
        self._done: dict[tuple[str, tuple[Scheme, ...]], list[Written]] = {}
        self._places: dict[str, str] = {}
        self._casts: list[onnx.NodeProto] = []

    def run(self) -> Path:
        """Quantise every MatMul with a constant weight, then the embedding; returns the path of model.onnx."""
        nodes = list(self.source.graph.node)
        todo, heads = matrices(self.source), _heads(self.source)
        replaced: dict[int, list[onnx.NodeProto]] = {}
        written: dict[str, list[Written]] = {}
        for count, node in enumerate(todo, 1):
            if not self.plan.stays(node):
                split = self.plan.split(self.source, node, node.output[0] in heads)
                written[node.input[1]] = self._quantized(node, split)
                replaced[id(node)] = self._products(node, written[node.input[1]])
            if count % 32 == 0 or count == len(todo):
                self.progress(f"quantize: {count} of {len(todo)} matrices")
        if self.plan.embedding:
            for node in nodes:
                if node.op_type == "Gather" and "input_ids" in node.input[1:]:
                    replaced |= self._embedding(node, nodes, written)
        kept = [new for old in nodes for new in replaced.get(id(old), [old])]
        return self.writer.finish(self.source, [*self._casts, *kept])

    def _quantized(self, node: onnx.NodeProto, split: Split) -> list[Written]:
        """A MatMul's matrix, written part by part."""
        activations, weight = node.input
        key = weight, tuple(scheme for _, scheme in split)
        if key not in self._done:
            values = self.source.array(weight)
            self._done[key] = []
            for number, (part, scheme) in enumerate(split):
                columns = part.of(values)
                if is_calibrated(scheme):
                    assert self.calibrated, "a scheme is gptq, and nothing to calibrate on was given"
                    value = self.calibrated.quantize(activations, columns, scheme)
                else:
                    value = blockwise.quantize(columns, scheme)
                names = self._write(_numbered(weight, number, split), value, scheme)
                self._done[key].append(Written(part, scheme, names))
            release(values)
        return self._done[key]

    def _write(self, weight: str, value: Quantized, scheme: Scheme) -> list[str]:
        stem = f"{weight}_Q{scheme.bits}G{scheme.block_size}"
        names = [self.writer.add(stem, value.packed), self._scales(f"{stem}_scales", value.scales)]
        if value.zero_points is not None:
            names.append(self.writer.add(f"{stem}_zero_points", value.zero_points))
        return names

    def _scales(self, name: str, scales: Array) -> str:
        """Write scales, as float16 where that is asked for and loses nothing that matters; the graph casts them back.

        The runtime folds the cast when it loads the model. Scales below float16's normal range stay as they are.
        """
        if not self.plan.half_scales or scales.dtype != np.float32:
            return self.writer.add(name, scales)
        half = scales.astype(np.float16)
        if not np.allclose(half.astype(np.float32), scales, rtol=2**-10, atol=0):
            return self.writer.add(name, scales)
        stored = self.writer.add(f"{name}_float16", half)
        self._casts.append(helper.make_node("Cast", [stored], [name], f"{name}_Cast", to=onnx.TensorProto.FLOAT))
        return name

    def _products(self, node: onnx.NodeProto, written: list[Written]) -> list[onnx.NodeProto]:
        """What replaces a MatMul: the product with each part, put beside each other and in order."""
        if len(written) == 1:
            return [self._product(node, written[0], node.name, node.output[0])]
        made = [f"{node.output[0]}_part{number}" for number in range(len(written))]
        products = [
            self._product(node, part, f"{node.name}_part{number}", output)
            for number, (part, output) in enumerate(zip(written, made, strict=True))
        ]
        places = self._place(node.input[1], written)
        if places is None:
            return [*products, helper.make_node("Concat", made, node.output, f"{node.name}_Concat", axis=-1)]
        beside = f"{node.output[0]}_parts"
        return [
            *products,
            helper.make_node("Concat", made, [beside], f"{node.name}_Concat", axis=-1),
            helper.make_node("Gather", [beside, places], node.output, f"{node.name}_Gather", axis=-1),
        ]

    def _place(self, weight: str, written: list[Written]) -> str | None:
        """The name of `parts.places` of a matrix; None where its parts are in order."""
        if weight not in self._places:
            outputs = sum(len(one.part.outputs) for one in written if one.part.outputs is not None)
            found = parts.places([(one.part, one.scheme) for one in written], outputs)
            if found is None:
                return None
            self._places[weight] = self.writer.add(f"{weight}_places", found)
        return self._places[weight]

    def _product(self, node: onnx.NodeProto, written: Written, name: str, output: str) -> onnx.NodeProto:
        inputs, outputs = self.source.initializers[node.input[1]].dims
        return helper.make_node(
            "MatMulNBits",
            [node.input[0], *written.names],
            [output],
            f"{name}_Q{written.scheme.bits}",
            domain="com.microsoft",
            K=inputs,
            N=written.part.width(outputs),
            bits=written.scheme.bits,
            block_size=written.scheme.block_size,
            accuracy_level=self.plan.accuracy_level,
        )

    def _embedding(
        self, gather: onnx.NodeProto, nodes: list[onnx.NodeProto], written: dict[str, list[Written]]
    ) -> dict[int, list[onnx.NodeProto]]:
        """Replacements for the nodes that look tokens up: empty where the table must stay float."""
        transpose = next((node for node in nodes if gather.input[0] in node.output), None)
        if transpose is not None and transpose.op_type == "Transpose" and transpose.input[0] in written:
            weight, table = transpose.input[0], written[transpose.input[0]]
            hidden, tokens = self.source.initializers[weight].dims
            if not _fits(hidden, [one.scheme for one in table]) or len(self.source.consumers[gather.input[0]]) > 1:
                return {}
            return {id(transpose): [], id(gather): self._lookup(gather, weight, (tokens, hidden), table)}
        name = gather.input[0]
        if not self.source.is_weight(name) or len(self.source.consumers[name]) > 1:
            return {}
        tokens, hidden = self.source.initializers[name].dims
        split = self.plan.of_tokens(name, tokens)
        if not _fits(hidden, [scheme for _, scheme in split]):
            return {}
        values = self.source.array(name)
        table = []
        for number, (part, scheme) in enumerate(split):
            value = blockwise.quantize(part.of(values.T), scheme)
            rows = value.packed.reshape(part.width(tokens), -1)
            flat = Quantized(rows, value.scales, value.zero_points)
            table.append(Written(part, scheme, self._write(_numbered(name, number, split), flat, scheme)))
        release(values)
        return {id(gather): self._lookup(gather, name, (tokens, hidden), table)}

    def _lookup(
        self, gather: onnx.NodeProto, weight: str, shape: tuple[int, int], table: list[Written]
    ) -> list[onnx.NodeProto]:
        """What replaces the Gather of a table of `shape` [tokens, hidden]: a look-up in each part, and a choice."""
        output, tokens = gather.output[0], gather.input[1]
        if len(table) == 1:
            return self._rows(gather, shape, table[0], tokens, output)
        stem, nodes = f"{output}_part", list[onnx.NodeProto]()
        place = self._place(weight, table)
        if place is None:
            nodes.append(helper.make_node("Cast", [tokens], [f"{stem}_place"], f"{stem}_place", to=TensorProto.INT32))
        else:
            nodes.append(helper.make_node("Gather", [place, tokens], [f"{stem}_place"], f"{stem}_place"))
        sizes = [one.part.width(shape[0]) for one in table]
        found = ""
        for number, (one, size, start) in enumerate(zip(table, sizes, accumulate([0, *sizes]), strict=False)):
            at = f"{stem}{number}"
            first, last = (
                self.writer.add(f"{at}_{name}", np.array(value, np.int32))
                for name, value in (("first", start), ("last", size - 1))
            )
            zero = self.writer.add(f"{at}_zero", np.array(0, np.int32))
            nodes += [
                helper.make_node("Sub", [f"{stem}_place", first], [f"{at}_from"], f"{at}_from"),
                helper.make_node("Max", [f"{at}_from", zero], [f"{at}_least"], f"{at}_least"),
                helper.make_node("Min", [f"{at}_least", last], [f"{at}_row"], f"{at}_row"),
                *self._rows(gather, shape, one, f"{at}_row", f"{at}_values"),
            ]
            if found:
                axis = self.writer.add(f"{at}_axis", np.array([-1], np.int64))
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
        self, gather: onnx.NodeProto, shape: tuple[int, int], one: Written, index: str, output: str
    ) -> list[onnx.NodeProto]:
        """Look-up of `index` in one part of a table of `shape` [tokens, hidden]."""
        bits, table = one.scheme.bits, one.names[0]
        name = f"{gather.name}_Q{bits}"
        if output != gather.output[0]:
            name = f"{name}_{output}"
        nodes = []
        if len(self.writer.tensors[table].dims) > 2:  # a head's, in blocks
            flat = np.array([one.part.width(shape[0]), shape[1] * bits // 8], np.int64)
            size, rows = self.writer.add(f"{output}_shape", flat), f"{output}_rows"
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


def _numbered(weight: str, number: int, split: Split) -> str:
    return f"{weight}_part{number}" if len(split) > 1 else weight


def _fits(hidden: int, schemes: list[Scheme]) -> bool:
    """Whether the blocks of each part divide a row of `hidden` values: a look-up knows no padding."""
    return not any(hidden % scheme.block_size for scheme in schemes)


def _heads(source: Graph) -> set[str]:
    """What the products give that the logits are made of."""
    return {node.output[0] for node in output_head.of(source.graph)}


def matrices(source: Graph) -> list[onnx.NodeProto]:
    """The MatMuls with a constant weight, in the order of the graph."""
    return [node for node in source.graph.node if node.op_type == "MatMul" and source.is_weight(node.input[1])]


def is_calibrated(scheme: Scheme) -> bool:
    """Whether a scheme needs to see what its matrix is multiplied with; with 8 bits, rounding to nearest will do."""
    return scheme.algorithm == "gptq" and scheme.bits == 4


def quantize(
    source: Path, folder: Path, plan: Plan, progress: Callable[[str], None] = print,
    calibrate: Calibrate | None = None, allocate: Allocate | None = None, order: Order | None = None,
) -> Path:  # fmt: skip
    """Write the model at `source` (model.onnx beside its data), quantised by `plan`, into `folder`.

    `calibrate` is needed where the plan's algorithm is "gptq", `order` where some tokens have bits of their own;
    `allocate` chooses each weight's schemes.
    """
    graph, calibrated = Graph(source), None
    if order:
        plan = replace(plan, order=order(graph, source, progress))
    if allocate:
        plan = replace(plan, splits=allocate(graph, source, plan, progress))
    if calibrate:
        heads, widths = _heads(graph), dict[tuple[str, int], int]()
        for node in matrices(graph):
            if not plan.stays(node):
                for _, scheme in plan.split(graph, node, node.output[0] in heads):
                    if is_calibrated(scheme):
                        widths[node.input[0], scheme.block_size] = graph.initializers[node.input[1]].dims[0]
        calibrated = calibrate(graph, source, widths, progress)
    with Writer(folder) as writer:
        return Rewrite(graph, writer, plan, progress, calibrated).run()

"""Weight-only quantisation of a float ONNX GenAI graph: MatMul to MatMulNBits, embeddings to GatherBlockQuantized.

Tied embeddings stay tied. The builder's float graph reads the output head [hidden, vocabulary] twice: as the right
side of the last MatMul and, transposed, as the table of the embedding's Gather. Its quantised form [vocabulary,
blocks, bytes] is already one row per token, so a Reshape to [vocabulary, bytes of a row] makes it the table of a
GatherBlockQuantized: one copy serves both, with the same scales and zero points. Blocks must divide the hidden size
for that, as GatherBlockQuantized knows no padding; where they don't, the table stays float.

An embedding of its own (untied) becomes a GatherBlockQuantized with as many bits as the head.

Some outputs of a matrix may have bits of their own (`parts.py`): it becomes several, whose products are put together.
Matrices that one thing is multiplied with, gate and up say, become one where their schemes are the same, and a Split
takes its product apart: each product costs a token some microseconds beside those of its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
from onnx import helper

from scripts.convert import blockwise, operators, parts
from scripts.convert.blockwise import Array, Quantized, Scheme
from scripts.convert.graph import Graph, Writer, release
from scripts.convert.operators import Written
from scripts.convert.parts import Part, Split
from scripts.convert.plan import Plan, beside, is_calibrated


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
        replaced: dict[int, list[onnx.NodeProto]] = {}
        written: dict[str, list[Written]] = {}
        splits = self.plan.schemes(self.source)
        together = beside(self.source, splits)
        for count, (node, split) in enumerate(splits, 1):
            group = together.get(node.output[0], [node])
            if len(group) == 1:
                written[node.input[1]] = self._quantized(node, split)
                replaced[id(node)] = self._products(node, written[node.input[1]])
            elif node is group[0]:
                replaced |= {id(other): [] for other in group[1:]}
                replaced[id(node)] = self._one_product(group, split[0][1])
            if count % 32 == 0 or count == len(splits):
                self.progress(f"quantize: {count} of {len(splits)} matrices")
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
                value = self._rounded(activations, part.of(values), scheme)
                names = self._write(_numbered(weight, number, split), value, scheme)
                self._done[key].append(Written(part, scheme, names))
            release(values)
        return self._done[key]

    def _rounded(self, activations: str, columns: Array, scheme: Scheme) -> Quantized:
        """Some outputs of a matrix, `columns` [K, N], quantised."""
        if is_calibrated(scheme):
            assert self.calibrated, "a scheme is gptq, and nothing to calibrate on was given"
            return self.calibrated.quantize(activations, columns, scheme)
        return blockwise.quantize(columns, scheme)

    def _one_product(self, group: list[onnx.NodeProto], scheme: Scheme) -> list[onnx.NodeProto]:
        """What replaces the MatMuls of a `group`: the product with all of their matrices, and what each gave."""
        activations, values = group[0].input[0], list[Quantized]()
        for node in group:
            columns = self.source.array(node.input[1])
            values.append(self._rounded(activations, columns, scheme))
            release(columns)
        ends = [len(value.packed) for value in values]
        inputs, outputs = self.source.initializers[group[0].input[1]].dims[0], sum(ends)
        names = self._write(f"{group[0].input[1]}_and_{len(group) - 1}", blockwise.beside(values), scheme)
        whole, name = Written(Part(group[0].name, None), scheme, names), f"{group[0].name}_and_{len(group) - 1}"
        given = f"{group[0].output[0]}_and_{len(group) - 1}"
        sizes = self.writer.add(f"{given}_sizes", np.array(ends, np.int64))
        return [
            operators.product(activations, whole, (inputs, outputs), self.plan.accuracy_level, name, given),
            helper.make_node("Split", [given, sizes], [node.output[0] for node in group], f"{name}_Split", axis=-1),
        ]

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
        inputs, outputs = self.source.initializers[node.input[1]].dims

        def product(one: Written, name: str, output: str) -> onnx.NodeProto:
            shape, level = (inputs, outputs), self.plan.accuracy_level
            return operators.product(node.input[0], one, shape, level, name, output)

        if len(written) == 1:
            return [product(written[0], node.name, node.output[0])]
        made = [f"{node.output[0]}_part{number}" for number in range(len(written))]
        products = [
            product(part, f"{node.name}_part{number}", output)
            for number, (part, output) in enumerate(zip(written, made, strict=True))
        ]
        places = self._place(node.input[1], written)
        if places is None:
            return [*products, helper.make_node("Concat", made, node.output, f"{node.name}_Concat", axis=-1)]
        parted = f"{node.output[0]}_parts"
        return [
            *products,
            helper.make_node("Concat", made, [parted], f"{node.name}_Concat", axis=-1),
            helper.make_node("Gather", [parted, places], node.output, f"{node.name}_Gather", axis=-1),
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
            return {id(transpose): [], id(gather): self._looked_up(gather, weight, (tokens, hidden), table)}
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
        return {id(gather): self._looked_up(gather, name, (tokens, hidden), table)}

    def _looked_up(
        self, gather: onnx.NodeProto, weight: str, shape: tuple[int, int], table: list[Written]
    ) -> list[onnx.NodeProto]:
        return operators.look_up(self.writer, gather, shape, table, self._place(weight, table))


def _numbered(weight: str, number: int, split: Split) -> str:
    return f"{weight}_part{number}" if len(split) > 1 else weight


def _fits(hidden: int, schemes: list[Scheme]) -> bool:
    """Whether the blocks of each part divide a row of `hidden` values: a look-up knows no padding."""
    return not any(hidden % scheme.block_size for scheme in schemes)


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
        widths = {
            (node.input[0], scheme.block_size): graph.initializers[node.input[1]].dims[0]
            for node, split in plan.schemes(graph)
            for _, scheme in split
            if is_calibrated(scheme)
        }
        calibrated = calibrate(graph, source, widths, progress)
    with Writer(folder) as writer:
        return Rewrite(graph, writer, plan, progress, calibrated).run()

"""Weight-only quantisation of a float ONNX GenAI graph: MatMul to MatMulNBits, embeddings to GatherBlockQuantized.

Tied embeddings stay tied. The builder's float graph reads the output head [hidden, vocabulary] twice: as the right
side of the last MatMul and, transposed, as the table of the embedding's Gather. Its quantised form [vocabulary,
blocks, bytes] is already one row per token, so a Reshape to [vocabulary, bytes of a row] makes it the table of a
GatherBlockQuantized: one copy serves both, with the same scales and zero points. Blocks must divide the hidden size
for that, as GatherBlockQuantized knows no padding; where they don't, the table stays float.

An embedding of its own (untied) becomes a GatherBlockQuantized with as many bits as the head.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
from onnx import helper

from scripts.convert import blockwise
from scripts.convert.blockwise import Array, Quantized, Scheme
from scripts.convert.graph import Graph, Writer, release

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
    #: By the name of a weight, instead of all else; see `allocation`.
    schemes: Mapping[str, Scheme] = field(default_factory=dict)

    def scheme(self, node: onnx.NodeProto, is_head: bool) -> Scheme | None:
        """The scheme for a MatMul, or None where it stays float."""
        if any(fnmatch.fnmatchcase(node.name, pattern) for pattern in (*_ROUTERS, *self.float_nodes)):
            return None
        if node.input[1] in self.schemes:
            return self.schemes[node.input[1]]
        if is_head:
            return self.head
        if any(fnmatch.fnmatchcase(node.name, pattern) for pattern in self.eight_bit_nodes):
            return Scheme(8, self.body.block_size, self.body.symmetric)
        return self.body


class Calibrated(Protocol):
    """What quantises by what a matrix is multiplied with: `scripts.convert.calibration`, for recipes that name gptq."""

    def quantize(self, activations: str, weight: Array, scheme: Scheme) -> Quantized:
        """Quantise `weight` [K, N], which the tensor called `activations` is multiplied with."""


#: Makes one for a graph, its path, and the widths K of activations by name and block size; it tells of its progress.
Calibrate = Callable[[Graph, Path, dict[tuple[str, int], int], Callable[[str], None]], Calibrated]
#: Chooses the scheme of each weight of a graph, by its name: `scripts.convert.allocation`.
Allocate = Callable[[Graph, Path, Plan, Callable[[str], None]], Mapping[str, Scheme]]


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
        self._done: dict[tuple[str, Scheme], list[str]] = {}
        self._casts: list[onnx.NodeProto] = []

    def run(self) -> Path:
        """Quantise every MatMul with a constant weight, then the embedding; returns the path of model.onnx."""
        nodes = list(self.source.graph.node)
        todo = matrices(self.source)
        replaced: dict[int, list[onnx.NodeProto]] = {}
        heads: dict[str, tuple[list[str], Scheme]] = {}
        for count, node in enumerate(todo, 1):
            is_head = node.output[0] in self.source.outputs()
            scheme = self.plan.scheme(node, is_head)
            if scheme is not None:
                names = self._quantized(node, scheme)
                replaced[id(node)] = [self._matmul(node, names, scheme)]
                heads[node.input[1]] = names, scheme
            if count % 32 == 0 or count == len(todo):
                self.progress(f"quantize: {count} of {len(todo)} matrices")
        if self.plan.embedding:
            for node in nodes:
                if node.op_type == "Gather" and "input_ids" in node.input[1:]:
                    replaced |= self._embedding(node, nodes, heads)
        kept = [new for old in nodes for new in replaced.get(id(old), [old])]
        return self.writer.finish(self.source, [*self._casts, *kept])

    def _quantized(self, node: onnx.NodeProto, scheme: Scheme) -> list[str]:
        """Names of the written tensors of a MatMul: packed, scales and, where asymmetric, zero points."""
        activations, weight = node.input
        key = weight, scheme
        if key not in self._done:
            values = self.source.array(weight)
            if is_calibrated(scheme):
                assert self.calibrated, "a scheme is gptq, and nothing to calibrate on was given"
                value = self.calibrated.quantize(activations, values, scheme)
            else:
                value = blockwise.quantize(values, scheme)
            self._done[key] = self._write(weight, value, scheme)
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

    def _matmul(self, node: onnx.NodeProto, names: list[str], scheme: Scheme) -> onnx.NodeProto:
        inputs, outputs = self.source.initializers[node.input[1]].dims
        return helper.make_node(
            "MatMulNBits",
            [node.input[0], *names],
            list(node.output),
            f"{node.name}_Q{scheme.bits}",
            domain="com.microsoft",
            K=inputs,
            N=outputs,
            bits=scheme.bits,
            block_size=scheme.block_size,
            accuracy_level=self.plan.accuracy_level,
        )

    def _embedding(
        self, gather: onnx.NodeProto, nodes: list[onnx.NodeProto], heads: dict[str, tuple[list[str], Scheme]]
    ) -> dict[int, list[onnx.NodeProto]]:
        """Replacements for the nodes that look tokens up: empty where the table must stay float."""
        transpose = next((node for node in nodes if gather.input[0] in node.output), None)
        if transpose is not None and transpose.op_type == "Transpose" and transpose.input[0] in heads:
            names, scheme = heads[transpose.input[0]]
            hidden, tokens = self.source.initializers[transpose.input[0]].dims
            if hidden % scheme.block_size or len(self.source.consumers[gather.input[0]]) > 1:
                return {}
            shape = self.writer.add(
                f"{transpose.output[0]}_shape", np.array([tokens, hidden * scheme.bits // 8], np.int64)
            )
            table = f"{transpose.output[0]}_rows"
            rows = helper.make_node("Reshape", [names[0], shape], [table], f"{transpose.name}_Reshape")
            return {
                id(transpose): [],
                id(gather): [rows, self._gather(gather, [table, *names[1:]], scheme)],
            }
        name = gather.input[0]
        if not self.source.is_weight(name) or len(self.source.consumers[name]) > 1:
            return {}
        scheme = self.plan.schemes.get(name, self.plan.head)
        tokens, hidden = self.source.initializers[name].dims
        if hidden % scheme.block_size:
            return {}
        values = self.source.array(name)
        value = blockwise.quantize(values.T, scheme)
        release(values)
        flat = Quantized(value.packed.reshape(tokens, -1), value.scales, value.zero_points)
        return {id(gather): [self._gather(gather, self._write(name, flat, scheme), scheme)]}

    def _gather(self, node: onnx.NodeProto, names: list[str], scheme: Scheme) -> onnx.NodeProto:
        return helper.make_node(
            "GatherBlockQuantized",
            [names[0], node.input[1], *names[1:]],
            list(node.output),
            f"{node.name}_Q{scheme.bits}",
            domain="com.microsoft",
            bits=scheme.bits,
            block_size=scheme.block_size,
            gather_axis=0,
            quantize_axis=1,
        )


def matrices(source: Graph) -> list[onnx.NodeProto]:
    """The MatMuls with a constant weight, in the order of the graph."""
    return [node for node in source.graph.node if node.op_type == "MatMul" and source.is_weight(node.input[1])]


def is_calibrated(scheme: Scheme) -> bool:
    """Whether a scheme needs to see what its matrix is multiplied with; with 8 bits, rounding to nearest will do."""
    return scheme.algorithm == "gptq" and scheme.bits == 4


def quantize(
    source: Path, folder: Path, plan: Plan, progress: Callable[[str], None] = print,
    calibrate: Calibrate | None = None, allocate: Allocate | None = None,
) -> Path:  # fmt: skip
    """Write the model at `source` (model.onnx beside its data), quantised by `plan`, into `folder`.

    `calibrate` is needed where the plan's algorithm is "gptq"; `allocate` chooses each weight's scheme.
    """
    graph, calibrated = Graph(source), None
    if allocate:
        plan = replace(plan, schemes=allocate(graph, source, plan, progress))
    if calibrate:
        outputs, widths = graph.outputs(), dict[tuple[str, int], int]()
        for node in matrices(graph):
            scheme = plan.scheme(node, node.output[0] in outputs)
            if scheme is not None and is_calibrated(scheme):
                widths[node.input[0], scheme.block_size] = graph.initializers[node.input[1]].dims[0]
        calibrated = calibrate(graph, source, widths, progress)
    with Writer(folder) as writer:
        return Rewrite(graph, writer, plan, progress, calibrated).run()

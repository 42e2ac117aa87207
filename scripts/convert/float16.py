"""Half the disk at float quality: weights stored as float16, each cast back to float32 where the graph reads it.

The graph still computes in float32, so it runs on any CPU (a graph in float16 does not: the runtime's second forward
pass fails there), at float32's speed and memory: the runtime folds the casts when it loads the model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from scripts.convert.graph import Graph, Writer, release

#: Operators whose matrices are worth halving. Rotary caches (read by attention) lose precision and weigh little.
_READERS = {"MatMul", "Gemm", "Gather", "Transpose"}


def store(source: Path, folder: Path) -> Path:
    """Write the model at `source` into `folder` with its matrices as float16; returns the path of model.onnx.

    A matrix with a value beyond float16's range (65,504) stays float32.
    """
    graph = Graph(source)
    casts: list[onnx.NodeProto] = []
    with Writer(folder) as writer:
        for name, tensor in graph.initializers.items():
            readers = {node.op_type for node in graph.consumers[name]}
            if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or not readers & _READERS:
                continue
            values = graph.array(name)
            if float(np.abs(values).max(initial=0)) > np.finfo(np.float16).max:
                continue
            half = writer.add(f"{name}_float16", values.astype(np.float16))
            release(values)
            casts.append(helper.make_node("Cast", [half], [name], f"{name}_Cast", to=TensorProto.FLOAT))
        return writer.finish(graph, [*casts, *graph.graph.node])

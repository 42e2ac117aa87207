"""Let the output head see the last position alone: serving asks for the next token, never for those of the prompt.

Logits of a whole prompt cost n · vocabulary · 4 bytes (800 MB for 4,096 tokens of a vocabulary of 49,152) and the
head's share of the prefill. The ONNX folder keeps them, since the quality stage compares every position; its graph
without its weights is small, so the package gets a graph of its own beside the linked weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: What may stand between the head and the logits, position by position: a cast, or a soft cap.
_PER_POSITION = {"Cast", "Mul", "Div", "Tanh"}
_HEADS = {"MatMul", "MatMulNBits"}
_LAST = (("start", -1), ("end", 2**62), ("axis", 1))


def prune(source: Path, target: Path, genai: Mapping[str, Any]) -> bool:
    """Write the graph `source` to `target` with logits [batch, 1, vocabulary]; False, and nothing written, where its
    head is none that we know.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(source), load_external_data=False)
    graph = model.graph
    name = genai["model"]["decoder"].get("outputs", {}).get("logits", "logits")
    made = {output: node for node in graph.node for output in node.output}
    logits = next((value for value in graph.output if value.name == name), None)
    head = made.get(name)
    while head is not None and head.op_type in _PER_POSITION:
        head = made.get(head.input[0])
    if head is None or head.op_type not in _HEADS or logits is None:
        return False
    dims = logits.type.tensor_type.shape.dim
    if len(dims) != 3 or dims[1].dim_value == 1:
        return False
    stem = "last_position"
    graph.initializer.extend(helper.make_tensor(f"{stem}_{key}", TensorProto.INT64, [1], [at]) for key, at in _LAST)
    inputs = [head.input[0], *(f"{stem}_{key}" for key, _ in _LAST)]
    graph.node.insert(list(graph.node).index(head), helper.make_node("Slice", inputs, [stem], f"/{stem}/Slice"))
    head.input[0] = stem
    dims[1].Clear()
    dims[1].dim_value = 1
    target.write_bytes(model.SerializeToString(deterministic=True))
    return True

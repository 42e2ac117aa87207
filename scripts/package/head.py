"""Let the output head see the last position alone: serving asks for the next token, never for those of the prompt.

Logits of a whole prompt cost n · vocabulary · 4 bytes (800 MB for 4,096 tokens of a vocabulary of 49,152) and the
head's share of the prefill. The ONNX folder keeps them, since the quality stage compares every position; its graph
without its weights is small, so the package gets a graph of its own beside the linked weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LAST = (("start", -1), ("end", 2**62), ("axis", 1))


def prune(source: Path, target: Path, genai: Mapping[str, Any]) -> bool:
    """Write the graph `source` to `target` with logits [batch, 1, vocabulary]; False, and nothing written, where its
    head is none that we know.
    """
    import onnx
    from onnx import TensorProto, helper

    from scripts.convert import output_head

    model = onnx.load(str(source), load_external_data=False)
    graph = model.graph
    name = genai["model"]["decoder"].get("outputs", {}).get("logits", "logits")
    logits = next((value for value in graph.output if value.name == name), None)
    heads = output_head.of(graph, name)
    if not heads or logits is None:
        return False
    dims = logits.type.tensor_type.shape.dim
    if len(dims) != 3 or dims[1].dim_value == 1:
        return False
    stem = "last_position"
    graph.initializer.extend(helper.make_tensor(f"{stem}_{key}", TensorProto.INT64, [1], [at]) for key, at in _LAST)
    inputs = [heads[0].input[0], *(f"{stem}_{key}" for key, _ in _LAST)]
    first = min(list(graph.node).index(one) for one in heads)
    graph.node.insert(first, helper.make_node("Slice", inputs, [stem], f"/{stem}/Slice"))
    for one in heads:
        one.input[0] = stem
    dims[1].Clear()
    dims[1].dim_value = 1
    target.write_bytes(model.SerializeToString(deterministic=True))
    return True

"""Where a graph's logits come from: the matrix that gives every token's, or several that give some tokens' each."""

from __future__ import annotations

import onnx

#: What may stand between a head and the logits, position by position: a cast, a bias, a scale, a soft cap.
_PER_POSITION = {"Add", "Cast", "Mul", "Div", "Tanh"}
_PRODUCTS = {"MatMul", "MatMulNBits"}


def of(graph: onnx.GraphProto, logits: str = "logits") -> list[onnx.NodeProto]:
    """The products that the output `logits` is made of, put beside each other and in order where they are several, all
    of the same hidden states; none where it is made otherwise.
    """
    made = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {output for output, node in made.items() if node.op_type == "Constant"}
    found, waiting = list[onnx.NodeProto](), [logits]
    while waiting:
        node = made.get(waiting.pop())
        if node is None:
            return []
        if node.op_type in _PRODUCTS:
            found.append(node)
        elif node.op_type == "Concat":
            waiting += reversed(node.input)
        elif node.op_type in _PER_POSITION or (node.op_type == "Gather" and node.input[1] in constants):
            values = [name for name in node.input if name not in constants]
            if len(values) != 1:
                return []
            waiting += values
        else:
            return []
    return found if len({node.input[0] for node in found}) == 1 else []

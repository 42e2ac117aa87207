"""Quantising a matrix and reading it back, against the operators that will compute with it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scripts.convert.blockwise import Scheme, dequantize, quantize


def matrix(inputs: int, outputs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (inputs, outputs)).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("algorithm", ["rtn", "search"])
@pytest.mark.parametrize("inputs", [128, 96, 100])
def test_what_is_read_back_is_what_the_operator_computes_with(
    bits: int, symmetric: bool, algorithm: str, inputs: int
) -> None:
    scheme = Scheme(bits, 32, symmetric, algorithm)
    weight = matrix(inputs, 24)
    value = quantize(weight, scheme)
    tensors = {"b": value.packed, "s": value.scales}
    if value.zero_points is not None:
        tensors["z"] = value.zero_points
    node = helper.make_node(
        "MatMulNBits", ["a", *tensors], ["y"], domain="com.microsoft", K=inputs, N=24, bits=bits, block_size=32
    )
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [inputs, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [inputs, 24])],
        [onnx.numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": np.eye(inputs, dtype=np.float32)})
    np.testing.assert_allclose(found, dequantize(value, scheme, inputs), atol=1e-6)


@given(seed=st.integers(0, 99), symmetric=st.booleans(), spread=st.floats(1e-3, 10))
@settings(max_examples=30, deadline=None)
def test_searching_never_loses_to_rounding(seed: int, symmetric: bool, spread: float) -> None:
    weight = (matrix(64, 8, seed) * spread).astype(np.float32)
    losses = []
    for algorithm in ("search", "rtn"):
        scheme = Scheme(4, 32, symmetric, algorithm)
        losses.append(float(((dequantize(quantize(weight, scheme), scheme, 64) - weight) ** 2).sum()))
    assert losses[0] <= losses[1] * 1.0001


@pytest.mark.parametrize("algorithm", ["rtn", "search"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.25, -0.25])
def test_a_constant_matrix_survives(algorithm: str, symmetric: bool, value: float) -> None:
    scheme = Scheme(4, 32, symmetric, algorithm)
    weight = np.full((64, 4), value, np.float32)
    np.testing.assert_allclose(dequantize(quantize(weight, scheme), scheme, 64), weight, atol=0.25 / 7 / 2)

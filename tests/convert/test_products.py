"""Matrices that one thing is multiplied with are one product, of which each node's output is what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from scripts.convert import inference, weightonly
from scripts.convert.blockwise import Array, Scheme, dequantize
from scripts.convert.blockwise import quantize as rounded
from scripts.convert.export import export
from scripts.convert.graph import Graph, summary
from scripts.convert.plan import Plan
from tests import tiny

FOUR, EIGHT = Scheme(4, 32, symmetric=False), Scheme(8, 32, symmetric=True)


@pytest.fixture(scope="module")
def qwen3_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries and keys are normalised before attention sees them."""
    folder = tmp_path_factory.mktemp("qwen3")
    export(tiny.make_checkpoint(folder / "checkpoint", "qwen3"), folder / "export")
    return folder / "export"


@pytest.mark.parametrize(("patterns", "products"), [((), 4), (("*/v_proj/*",), 5), (("*/up_proj/*",), 5)])
def test_each_gives_what_its_own_matrix_gives(
    qwen3_export: Path, tmp_path: Path, patterns: tuple[str, ...], products: int
) -> None:
    source = Graph(qwen3_export / "model.onnx")
    plan = Plan(FOUR, EIGHT, eight_bit_nodes=patterns)
    made = weightonly.quantize(qwen3_export / "model.onnx", tmp_path / "out", plan)
    (tmp_path / "out" / "genai_config.json").write_bytes((qwen3_export / "genai_config.json").read_bytes())
    graph = Graph(made)
    layers = 2
    assert summary(made)["operators"]["MatMulNBits"] == layers * products + 1  # and the head
    checked = 0
    for node in source.graph.node:
        if node.op_type != "MatMul" or "layers" not in node.name:
            continue
        run = inference.session(graph.model, made, [node.input[0], node.output[0]])
        fed = inference.feeds(run, np.arange(3, 40), made)
        inputs, found = run.run([node.input[0], node.output[0]], fed)
        expected = inputs[0] @ read_back(node.name, source.array(node.input[1]), patterns)
        assert np.abs(found[0] - expected).max() < 0.03 * np.abs(expected).max(), node.name
        checked += 1
    assert checked == layers * 5


def read_back(name: str, weight: Array, patterns: tuple[str, ...]) -> Array:
    """A matrix as it should be computed with; values are the last quarter of what gives queries and keys too."""
    eight = [pattern for pattern in patterns if pattern.strip("*") in name]
    apart = weight.shape[1] * 3 // 4 if "qkv_proj" in name and "*/v_proj/*" in patterns else 0
    pieces = [(weight[:, :apart], FOUR), (weight[:, apart:], EIGHT if eight or apart else FOUR)]
    return np.concatenate(
        [dequantize(rounded(piece, scheme), scheme, len(weight)) for piece, scheme in pieces if piece.size], axis=1
    )


def test_what_is_shared_or_gives_the_logits_is_a_product_of_its_own(tmp_path: Path) -> None:
    """`a` and `b` are one product; `s` is read twice, `h` gives the logits, `c` has another input."""
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[1, 2, 32] x) => (float[1, 2, 64] logits, float[1, 2, 96] z) {
        va = MatMul(x, a) vb = MatMul(x, b) vs = MatMul(x, s) vt = MatMul(va, s) vc = MatMul(va, c)
        logits = MatMul(x, h)
        p = Concat<axis = -1>(va, vb, vc) q = Concat<axis = -1>(vs, vt, vs) z = Add(p, q)
    }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, outputs in {"a": 32, "b": 32, "s": 32, "h": 64, "c": 32}.items():
        values = rng.standard_normal((32, outputs)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    onnx.save(model, tmp_path / "model.onnx")
    made = weightonly.quantize(tmp_path / "model.onnx", tmp_path / "out", Plan(FOUR, EIGHT))
    split = next(node for node in Graph(made).graph.node if node.op_type == "Split")
    assert list(split.output) == ["va", "vb"]
    assert summary(made)["operators"] == {"MatMulNBits": 5, "Split": 1, "Concat": 2, "Add": 1}

    import onnxruntime

    run = onnxruntime.InferenceSession(str(made), providers=["CPUExecutionProvider"])
    whole = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    x = {"x": rng.standard_normal((1, 2, 32)).astype(np.float32)}
    for found, expected in zip(run.run(None, x), whole.run(None, x), strict=True):
        assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_experts_that_share_their_input_are_not_all_one_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.convert.plan._TOGETHER", 3 * 32 * 32)
    names = [f"e{number}" for number in range(7)]
    products = " ".join(f"{name}y = MatMul(x, {name})" for name in names)
    sums = ", ".join(f"{name}y" for name in names)
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
    g (float[1, 2, 32] x) => (float[1, 2, 32] z) {{ {products} z = Sum({sums}) }}"""
    model = onnx.parser.parse_model(text)
    for name in names:
        model.graph.initializer.append(numpy_helper.from_array(np.eye(32, dtype=np.float32), name))
    onnx.save(model, tmp_path / "model.onnx")
    made = weightonly.quantize(tmp_path / "model.onnx", tmp_path / "out", Plan(FOUR, EIGHT))
    splits = [list(node.output) for node in Graph(made).graph.node if node.op_type == "Split"]
    assert splits == [["e0y", "e1y", "e2y"], ["e3y", "e4y", "e5y"]]
    assert summary(made)["operators"] == {"MatMulNBits": 3, "Split": 2, "Sum": 1}

"""Outputs of a matrix with bits of their own: each is where it was, and has the bits that it should have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper

from scripts.common.errors import IngotError
from scripts.convert import calibration, frequency, inference, output_head, parts
from scripts.convert.blockwise import Array, Quantized, Scheme, dequantize
from scripts.convert.graph import Graph
from scripts.convert.parts import Part
from scripts.convert.plan import Plan
from scripts.convert.quantize import quantize
from scripts.definitions import passes
from scripts.package.head import prune

TOKENS = {"type": "WeightOnlyQuantization", "algorithm": "gptq", "head_bits": 4, "eight_bit_tokens": 0.25}
FOUR, EIGHT = Scheme(4, 32, symmetric=False), Scheme(8, 32, symmetric=True)


def test_parts_put_beside_each_other_are_found_again() -> None:
    order = np.random.default_rng(0).permutation(1000)
    for split in (
        [(Part("", order[:300]), FOUR), (Part("", np.sort(order[300:])), EIGHT)],
        [(part, FOUR) for part in parts.of_tokens("", order)],
        [(part, FOUR) for part in parts.frequent("", order, 0.3)],
    ):
        places = parts.places(split, 1000)
        assert places is not None
        beside = np.concatenate([part.of(np.arange(1000)[None])[0] for part, _ in split])
        np.testing.assert_array_equal(beside[places], np.arange(1000))


def test_parts_in_order_need_no_places_and_those_of_one_scheme_are_one() -> None:
    split = [(Part("", np.arange(600)), FOUR), (Part("", np.arange(600, 1000)), EIGHT)]
    assert parts.places(split, 1000) is None
    ((one, scheme),) = parts.joined([(part, FOUR) for part, _ in split])
    assert one.outputs is None
    assert scheme == FOUR


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999, 1.0])
def test_no_part_is_empty_and_every_token_is_in_one(share: float) -> None:
    for count in (5, 32, 33, 1000):
        for found in (parts.frequent("", np.arange(count), share), parts.of_tokens("", np.arange(count))):
            assert sorted(np.concatenate([part.outputs for part in found])) == list(range(count))


def read(graph: Graph, node: onnx.NodeProto) -> Array:
    """The float matrix [K, N] that a MatMulNBits multiplies with."""
    given = {attribute.name: attribute.i for attribute in node.attribute}
    scales = graph.array(node.input[2]) if node.input[2] in graph.initializers else None
    if scales is None:  # stored as float16, cast by the graph
        (cast,) = [one for one in graph.graph.node if node.input[2] in one.output]
        scales = graph.array(cast.input[0]).astype(np.float32)
    zeros = graph.array(node.input[3]) if len(node.input) > 3 else None
    value = Quantized(graph.array(node.input[1]), scales, zeros)
    scheme = Scheme(given["bits"], given["block_size"], symmetric=zeros is None)
    return dequantize(value, scheme, given["K"])


def wanted(export: Path, checkpoint: Path, text: Path) -> tuple[Graph, Array]:
    source = Graph(export / "model.onnx")
    return source, frequency.order(source, export / "model.onnx", calibration.tokens(checkpoint, [text]), print)


@pytest.fixture
def by_tokens(
    trained_export: Path, tiny_trained: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr(calibration, "WINDOW", 256)
    quantize(trained_export, {"passes": [TOKENS]}, tmp_path / "out", tiny_trained, [conversations])
    return tmp_path / "out"


def test_each_token_has_its_own_row_in_head_and_embedding_and_the_frequent_ones_8_bits(
    by_tokens: Path, trained_export: Path, tiny_trained: Path, conversations: Path
) -> None:
    source, order = wanted(trained_export, tiny_trained, conversations)
    truth = source.array("lm_head.MatMul.weight")
    graph = Graph(by_tokens / "model.onnx")
    heads = [node for node in graph.graph.node if node.name.startswith("/lm_head/MatMul_part")]
    (put_back,) = [node for node in graph.graph.node if "logits" in node.output]
    places = graph.array(put_back.input[1])
    table = np.concatenate([read(graph, node) for node in heads], axis=1)[:, places]
    errors = np.abs(table - truth).max(axis=0)
    frequent = np.isin(np.arange(len(order)), order[: -(-len(order) // 4 // 32) * 32])
    assert errors[frequent].max() < 0.01 * np.abs(truth).max()
    assert errors[~frequent].max() > 0.02 * np.abs(truth).max()
    assert np.abs(table - truth).mean() < 0.1 * np.abs(truth).mean()

    (embedded,) = [node.output[0] for node in graph.graph.node if node.op_type == "Where"]
    tokens = np.arange(len(order), dtype=np.int32)
    for name, expected in ((embedded, table.T[tokens]), ("logits", None)):
        run = inference.session(graph.model, by_tokens / "model.onnx", [name])
        (found,) = run.run([name], inference.feeds(run, tokens[:512], by_tokens / "model.onnx"))
        if expected is not None:
            np.testing.assert_allclose(found[0], expected[:512], atol=1e-6)
        else:
            float_run = inference.session(source.model, trained_export / "model.onnx", [name])
            (of_floats,) = float_run.run(
                [name], inference.feeds(float_run, tokens[:512], trained_export / "model.onnx")
            )
            assert (found[0].argmax(axis=1) == of_floats[0].argmax(axis=1)).mean() > 0.7


def test_a_package_computes_the_last_position_alone_of_a_head_in_parts(by_tokens: Path) -> None:
    settings = json.loads((by_tokens / "genai_config.json").read_text())
    whole = Graph(by_tokens / "model.onnx")
    assert prune(by_tokens / "model.onnx", by_tokens / "pruned.onnx", settings)
    answers = []
    for path in (by_tokens / "model.onnx", by_tokens / "pruned.onnx"):
        run = inference.session(Graph(path).model, by_tokens / "model.onnx", ["logits"])
        answers.append(run.run(["logits"], inference.feeds(run, np.arange(40), by_tokens / "model.onnx"))[0])
    assert answers[1].shape[1] == 1
    # One row and many are summed in other orders by some processors' kernels.
    np.testing.assert_allclose(answers[1], answers[0][:, -1:], atol=1e-5)
    assert len(whole.graph.node) + 1 == len(Graph(by_tokens / "pruned.onnx").graph.node)


def test_an_embedding_of_its_own_is_in_parts_too(
    qwen2_export: Path, tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "WINDOW", 64)
    text = tmp_path / "text.txt"
    text.write_text("a few words of text that are said again and again " * 200)
    quantize(qwen2_export, {"passes": [TOKENS]}, tmp_path / "out", tiny_qwen2, [text])
    source, graph = Graph(qwen2_export / "model.onnx"), Graph(tmp_path / "out" / "model.onnx")
    (gather,) = [node for node in source.graph.node if "input_ids" in node.input]
    truth = source.array(gather.input[0])
    (embedded,) = [node.output[0] for node in graph.graph.node if node.op_type == "Where"]
    run = inference.session(graph.model, tmp_path / "out" / "model.onnx", [embedded])
    feeds = inference.feeds(run, np.arange(len(truth)), tmp_path / "out" / "model.onnx")
    errors = np.abs(run.run([embedded], feeds)[0][0] - truth).max(axis=1)
    assert errors.max() < 0.2 * np.abs(truth).max()
    assert 0.2 < (errors < 0.01 * np.abs(truth).max()).mean() < 0.4, "a quarter of them in 8 bits"


def test_values_alone_may_have_8_bits_of_a_matrix_that_gives_queries_and_keys_too(
    llama_export: Path, tmp_path: Path
) -> None:
    recipe = {"passes": [{"type": "WeightOnlyQuantization", "eight_bit_nodes": ["*/v_proj/*"]}]}
    quantize(llama_export, recipe, tmp_path / "out")
    source, graph = Graph(llama_export / "model.onnx"), Graph(tmp_path / "out" / "model.onnx")
    name = next(node.name for node in source.graph.node if "qkv_proj" in node.name)
    products = [node for node in graph.graph.node if node.name.startswith(f"{name}_part")]
    assert [next(a.i for a in node.attribute if a.name == "bits") for node in products] == [4, 8]
    truth = source.array(next(node.input[1] for node in source.graph.node if node.name == name))
    (attention,) = [node for node in source.graph.node if node.op_type == "GroupQueryAttention"][:1]
    heads = {attribute.name: attribute.i for attribute in attention.attribute}
    values = truth.shape[1] * heads["kv_num_heads"] // (heads["num_heads"] + 2 * heads["kv_num_heads"])
    errors = np.abs(np.concatenate([read(graph, node) for node in products], axis=1) - truth).max(axis=0)
    assert errors[-values:].max() < 0.3 * errors[:-values].min()


def test_a_matrix_that_no_attention_reads_as_three_is_whole() -> None:
    value = helper.make_tensor_value_info
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, 8], np.zeros(32))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "/attn/qkv_proj/MatMul"),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    x, z = value("x", onnx.TensorProto.FLOAT, [1, 4]), value("z", onnx.TensorProto.FLOAT, [1, 8])
    source = Graph.__new__(Graph)
    source.graph = helper.make_graph(nodes, "g", [x], [z], [weight])
    source.initializers = {"w": weight}
    source.consumers = {"x": [nodes[0]], "w": [nodes[0]], "y": [nodes[1]], "z": []}
    (part,) = parts.of_node(source, nodes[0])
    assert part.outputs is None


def test_a_table_of_other_tokens_than_the_logits_is_whole() -> None:
    plan = Plan(FOUR, FOUR, eight_bit_tokens=0.25, order=np.arange(100))
    assert [part.width(100) for part, _ in plan.of_tokens("w", 100)] == [32, 68]
    for tokens in (64, 99, 101):
        ((part, scheme),) = plan.of_tokens("w", tokens)
        assert (part.outputs, scheme) == (None, FOUR)


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ("logits = Identity(y)", False),
        ("s = Add(y, b) t = Div(s, c) u = Tanh(t) logits = Mul(c, u)", True),
        ("s = Mul(y, y) logits = Add(s, b)", False),
        ("logits = Add(y, x)", False),
    ],
)
def test_a_head_is_found_behind_a_bias_a_scale_and_a_soft_cap(after: str, found: bool) -> None:
    graph = onnx.parser.parse_graph(f"g (float[1, 2, 4] x) => (float[1, 2, 4] logits) {{ y = MatMul(x, w) {after} }}")
    graph.initializer.extend(helper.make_tensor(name, onnx.TensorProto.FLOAT, [], [1]) for name in "wbc")
    assert [node.op_type for node in output_head.of(graph)] == ["MatMul"] * found


def test_a_share_of_tokens_says_nothing_beside_a_head_of_8_bits() -> None:
    with pytest.raises(IngotError, match="no meaning beside head_bits = 8"):
        passes.check_pass("WeightOnlyQuantization", {"eight_bit_tokens": 0.5}, where="passes[0]")

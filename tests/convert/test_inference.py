"""Tensors from the middle of a real export: as much of it as leads to them is computed, and in turns the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scripts.convert import inference
from scripts.convert.graph import Graph

WINDOWS = np.arange(3, 3 + 2 * 64, dtype=np.int32).reshape(2, 64)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the nodes that sessions are made of, in their order."""
    import onnxruntime

    found, session = list[str](), onnxruntime.InferenceSession

    def listening(model: bytes, *words: Any, **more: Any) -> Any:
        found.extend(node.name for node in onnx.load_model_from_string(model).graph.node)
        return session(model, *words, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", listening)
    return found


def products(graph: Graph) -> list[str]:
    """What the MatMuls of the layers and the head multiply, in the order of the graph."""
    nodes = [node for node in graph.graph.node if node.op_type == "MatMul" and graph.is_weight(node.input[1])]
    return list(dict.fromkeys(node.input[0] for node in nodes))


def test_what_leads_to_no_tensor_is_not_computed(trained_export: Path, computed: list[str]) -> None:
    path = trained_export / "model.onnx"
    graph = Graph(path)
    name = products(graph)[1]
    run = inference.session(graph.model, path, [name])
    assert 0 < len(computed) < len(graph.graph.node) / 2
    assert not [node for node in computed if "lm_head" in node or "layers.1" in node]
    (found,) = run.run([name], inference.feeds(run, WINDOWS[0], path))
    everything = inference.session(graph.model, path, [name, "logits"])
    (whole, _) = everything.run([name, "logits"], inference.feeds(everything, WINDOWS[0], path))
    np.testing.assert_array_equal(found, whole)


def test_turns_give_what_one_run_gives_and_no_node_is_computed_twice(trained_export: Path, computed: list[str]) -> None:
    path = trained_export / "model.onnx"
    graph = Graph(path)
    names = products(graph)
    truth = [*inference.Stretches(graph.model, path, [names], WINDOWS).run(0)]
    whole = [*computed]
    computed.clear()
    turns = [[name] for name in names]
    stretches = inference.Stretches(graph.model, path, turns, WINDOWS)
    for turn in range(len(turns)):
        for window, (found,) in enumerate(stretches.run(turn)):
            np.testing.assert_allclose(found, truth[window][turn], rtol=1e-5, atol=1e-6)
    constants = [node.name for node in graph.graph.node if node.op_type == "Constant"]
    assert sorted(set(computed) - {*constants}) == sorted(name for name in computed if name not in constants)
    assert {*computed} == {*whole}
    for turn in (2, 0, len(turns) - 1):  # back, and ahead
        (found,) = list(stretches.run(turn))[1]
        np.testing.assert_allclose(found, truth[1][turn], rtol=1e-5, atol=1e-6)


def test_no_more_is_kept_than_a_later_turn_reads(trained_export: Path) -> None:
    path = trained_export / "model.onnx"
    graph = Graph(path)
    turns = [[name] for name in products(graph)]
    stretches = inference.Stretches(graph.model, path, turns, WINDOWS)
    most = 0
    for turn in range(len(turns)):
        for _ in stretches.run(turn):
            pass
        most = max(most, len(list(stretches.folder.iterdir())))
    assert most <= 6 * len(WINDOWS)  # the residual stream, what the next product reads, the lengths of sequences
    assert not list(stretches.folder.iterdir())


def test_a_branch_reads_what_is_outside_of_it(tmp_path: Path) -> None:
    """`chosen` is x + weight or x - weight, made in a branch; the nodes before it have no other reader."""
    value = helper.make_tensor_value_info
    inner = [
        helper.make_graph([helper.make_node(kind, ["doubled", "weight"], [kind])], kind, [],
                          [value(kind, TensorProto.FLOAT, [1, 4])])
        for kind in ("Add", "Sub")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "x"], ["doubled"], name="double"),
        helper.make_node("If", ["more"], ["chosen"], name="if", then_branch=inner[0], else_branch=inner[1]),
        helper.make_node("Neg", ["chosen"], ["last"], name="neg"),
        helper.make_node("Neg", ["x"], ["unused"], name="unused"),
    ]
    constants = [
        numpy_helper.from_array(np.ones(4, np.float32), "weight"),
        numpy_helper.from_array(np.array(True), "more"),
    ]
    graph = helper.make_graph(nodes, "g", [value("input_ids", TensorProto.INT64, [1, 4])], [value("last", 1, [1, 4])],
                              constants)  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model.onnx"
    )
    (tmp_path / "genai_config.json").write_text(
        '{"model": {"decoder": {"head_size": 4}}, "search": {}}', encoding="utf-8"
    )
    model, window = Graph(tmp_path / "model.onnx").model, np.arange(4, dtype=np.int32)[None]
    assert [node.name for node in inference.leading_to(model.graph, ["last"])] == ["cast", "double", "if", "neg"]
    stretches = inference.Stretches(model, tmp_path / "model.onnx", [["doubled"], ["last"]], window)
    ((doubled,),) = stretches.run(0)
    ((last,),) = stretches.run(1)
    assert (doubled.tolist(), last.tolist()) == ([[0, 2, 4, 6]], [[-1, -3, -5, -7]])

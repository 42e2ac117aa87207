"""Texts to tokens to Gram matrices, on the graph of a real export, and what calibrating is worth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from scripts.common.errors import IngotError
from scripts.convert import calibration, gptq
from scripts.convert.calibration import Calibration
from scripts.convert.graph import Graph
from scripts.convert.quantize import quantize
from tests import tiny

GPTQ = {"passes": [{"type": "WeightOnlyQuantization", "bits": 4, "head_bits": 4, "algorithm": "gptq"}]}
SEARCH = {"passes": [{**GPTQ["passes"][0], "algorithm": "search"}]}


def test_conversations_go_through_the_chat_template(
    tiny_trained: Path, conversations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setattr(calibration, "WINDOW", 32)
    windows = calibration.tokens(tiny_trained, [conversations])
    assert windows.shape == (calibration.WINDOWS, 32)
    begin = AutoTokenizer.from_pretrained(tiny_trained).decode(windows[0])
    assert begin.startswith(f"<|im_start|>user\n{tiny.FACTS[0][0]}<|im_end|>\n<|im_start|>assistant\n")


def test_every_text_counts_alike(
    tiny_trained: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "WINDOW", 32)
    prose, rows = tmp_path / "prose.txt", tmp_path / "rows.jsonl"
    prose.write_text(tiny.TEXT * 9, encoding="utf-8")
    rows.write_text("\n".join(json.dumps({"text": tiny.TEXT}) for _ in range(9)), encoding="utf-8")
    assert len(calibration.tokens(tiny_trained, [prose, rows, conversations])) == 3 * calibration.WINDOWS


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b'{"messages": [{"role": "user"}]}', r"a\.jsonl:1: is not a text to calibrate on"),
        ("a.jsonl", b'{"text": "fine"}\n{oops', r"a\.jsonl:2: not JSON"),
        ("a.txt", b"\xff\xfe\x00", r"a\.txt: is not UTF-8"),
        ("a.txt", b"short", r"a\.txt: fill no window of 512 tokens"),
    ],
)
def test_a_text_that_will_not_do_is_named(
    tiny_trained: Path, tmp_path: Path, name: str, content: Any, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IngotError, match=complaint):
        calibration.tokens(tiny_trained, [tmp_path / name])


def test_the_gram_matrices_are_those_of_what_the_checkpoint_computes(
    tiny_trained: Path, trained_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hooks in transformers; and the same whether all are gathered at once or one by one."""
    import torch
    from transformers import AutoModelForCausalLM

    windows = np.arange(3, 3 + 2 * 64, dtype=np.int32).reshape(2, 64)
    monkeypatch.setattr(calibration, "WINDOW", 64)
    model = AutoModelForCausalLM.from_pretrained(tiny_trained, dtype=torch.float32)
    seen: list[torch.Tensor] = []
    model.model.layers[1].mlp.down_proj.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0][0]))
    with torch.no_grad():
        for window in windows:
            model(torch.tensor(window[None].astype(np.int64)))
    x = torch.cat(seen).numpy()
    graph = Graph(trained_export / "model.onnx")
    nodes = {node.name: node for node in graph.graph.node}
    name = nodes["/model/layers.1/mlp/down_proj/MatMul"].input[0]
    widths = {(node.input[0], 32): graph.initializers[node.input[1]].dims[0] for node in graph.graph.node
              if node.op_type == "MatMul" and graph.is_weight(node.input[1])}  # fmt: skip
    monkeypatch.setattr(gptq, "factor", lambda gram, size: gptq.Factor(np.array([size]), gram))
    for budget in (1 << 30, 1):
        monkeypatch.setattr(calibration, "_BUDGET", budget)
        calibrated = Calibration(windows, graph, trained_export / "model.onnx", widths, lambda _line: None)
        np.testing.assert_allclose(calibrated.factor((name, 32)).upper, x.T @ x / len(x), rtol=1e-3, atol=1e-4)


def test_calibrating_keeps_more_of_what_the_model_learnt(
    tiny_trained: Path, trained_export: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "WINDOW", 64)
    quantize(trained_export, GPTQ, tmp_path / "gptq", tiny_trained, texts=[conversations])
    quantize(trained_export, GPTQ, tmp_path / "again", tiny_trained, texts=[conversations])
    quantize(trained_export, SEARCH, tmp_path / "search")
    assert (tmp_path / "gptq/model.onnx.data").read_bytes() == (tmp_path / "again/model.onnx.data").read_bytes()
    assert (tmp_path / "gptq/model.onnx.data").stat().st_size == (tmp_path / "search/model.onnx.data").stat().st_size
    assert 2 * divergence(trained_export, tmp_path / "gptq") < divergence(trained_export, tmp_path / "search")


def test_a_recipe_that_calibrates_asks_for_texts(trained_export: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="it calibrates on texts, and none was given"):
        quantize(trained_export, GPTQ, tmp_path / "out")


def test_activations_that_overflow_are_told_with_a_remedy(
    trained_export: Path, tiny_trained: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "WINDOW", 64)
    export = shutil.copytree(trained_export, tmp_path / "export")
    model = onnx.load(export / "model.onnx")
    [norm] = [one for one in model.graph.initializer if one.name == "model.layers.1.input_layernorm.weight"]
    norm.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(norm) * np.float32(1e30), norm.name))
    (export / "model.onnx.data").unlink()
    onnx.save(model, export / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    with pytest.raises(IngotError, match=r"model\.onnx: what it computes for the texts overflows: .*layers\.1") as told:
        quantize(export, GPTQ, tmp_path / "out", tiny_trained, texts=[conversations])
    assert "such as int4" in told.value.remedy
    assert not (tmp_path / "out").exists()


def test_texts_are_the_models_and_not_the_recipes(trained_export: Path, tmp_path: Path) -> None:
    recipe = {"passes": [{**GPTQ["passes"][0], "calibration": "my.txt"}]}
    with pytest.raises(IngotError, match="calibration: unknown key"):
        quantize(trained_export, recipe, tmp_path / "out")


def divergence(one: Path, other: Path) -> float:
    """Mean KL divergence on the facts, nats."""
    import onnxruntime_genai as og

    found = []
    for folder in (one, other):
        model = og.Model(str(folder))
        tokenizer = og.Tokenizer(model)
        rows = []
        for question, answer in tiny.FACTS:
            asked = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            params = og.GeneratorParams(model)
            params.set_search_options(max_length=128)
            generator = og.Generator(model, params)
            generator.append_tokens(tokenizer.encode(asked + answer))
            rows.append(np.array(generator.get_output("logits"))[0].astype(np.float64))
        values = np.concatenate(rows)
        values -= values.max(-1, keepdims=True)
        found.append(values - np.log(np.exp(values).sum(-1, keepdims=True)))
    return float((np.exp(found[0]) * (found[0] - found[1])).sum(-1).mean())


@pytest.mark.parametrize("size", [1, 7, 128, 301])
@pytest.mark.parametrize("massive", [1, 10000])
def test_the_factor_is_that_of_the_inputs(size: int, massive: float) -> None:
    """Also where one token's activations dwarf all others, in inputs that know nothing apart from each other."""
    inputs = np.random.default_rng(0).standard_normal((2 * size, size)) * np.linspace(0.1, 10, size)
    inputs[0, :3] *= massive
    gram = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    added = float(0.01 * np.diag(gram).mean(dtype=np.float64))
    known = gptq.factor(gram, 32)
    order, upper = known.order, np.triu(known.upper).astype(np.float64)
    assert sorted(order) == list(range(size))
    assert (np.diag(upper) > 0).all()
    wanted = gram[order][:, order] + added * np.eye(size)
    np.testing.assert_allclose(upper @ upper.T, wanted, rtol=1e-6, atol=added / 50)

"""Bits where they count: the best allocation within a budget, kept by the files, the same each time."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest

from scripts.common.errors import IngotError
from scripts.convert import allocation, calibration, frequency, inference, sensitivity
from scripts.convert.allocation import Budget
from scripts.convert.blockwise import Scheme
from scripts.convert.graph import Graph, summary
from scripts.convert.items import REFERENCE, Item, of_nodes, tables
from scripts.convert.parts import Part
from scripts.convert.plan import matrices
from scripts.convert.quantize import quantize


def made_up(seed: int) -> list[Item]:
    draw = np.random.default_rng(seed)
    items = []
    for number in range(4):
        bits = np.cumsum(draw.integers(1, 9, 4)).astype(float)
        losses = np.sort(draw.random(4))[::-1]
        pairs = enumerate(zip(bits, losses, strict=True))
        choices = [(float(b), float(loss), Scheme(4, 16 << i, symmetric=False)) for i, (b, loss) in pairs]
        items.append(Item(f"w{number}", Part("", None), (1, 1), "", 0, "", choices))
    return items


@pytest.mark.parametrize("seed", range(20))
def test_no_allocation_that_costs_as_little_loses_less_by_more_than_one_step(seed: int) -> None:
    """The hull is what greedy sees; against every allocation there is, at most the last step is left out."""
    items = made_up(seed)
    every = [choice for item in items for choice in item.choices]
    low, high = (sum(end(choice[0] for choice in item.choices) for item in items) for end in (min, max))
    for target in np.linspace(low, high, 7):
        chosen = allocation.allocate(items, Budget(float(target), 0.0, 1))
        picked = [
            next(choice for choice in item.choices if choice[2] == one) for item, one in zip(items, chosen, strict=True)
        ]
        assert sum(choice[0] for choice in picked) <= target + 1e-9
        best = min(
            sum(c[1] for c in combination)
            for combination in itertools.product(*(item.choices for item in items))
            if sum(c[0] for c in combination) <= target
        )
        assert sum(choice[1] for choice in picked) - best <= max(choice[1] for choice in every)


@pytest.mark.parametrize("bits", [0.5, 90.0])
def test_a_budget_that_no_allocation_meets_names_the_range_of_those(bits: float) -> None:
    items = made_up(0)
    with pytest.raises(IngotError, match=r"target_bits: .* can't be had") as refused:
        allocation.allocate(items, Budget(bits, 0.0, 1))
    low, high = (float(word) for word in refused.value.remedy.removeprefix("Give ").split(" to "))
    for end in (low, high):
        allocation.allocate(items, Budget(end, 0.0, 1))


def test_bits_that_gain_nothing_are_left_out_and_no_budget_is_refused_for_them() -> None:
    schemes = [Scheme(4, 32, symmetric=False), Scheme(8, 32, symmetric=True)]
    item = Item("w", Part("", None), (1, 1), "", 0, "", [(4.0, 0.0, schemes[0]), (8.0, 0.0, schemes[1])])
    assert allocation.allocate([item], Budget(7.0, 0.0, 1)) == [schemes[0]]


def test_a_token_whose_inputs_are_all_zero_counts_as_nothing() -> None:
    graph = onnx.parser.parse_graph("g (float[1, T, 4] x) => (float[1, T, 4] y) { y = Identity(x) }")
    made = onnx.helper.make_model(graph)
    inputs = np.zeros((1, 3, 4), np.float32)
    inputs[0, 1:] = 2
    seen = sensitivity.shares(made, ["x"])
    run = onnx.reference.ReferenceEvaluator(made)
    np.testing.assert_allclose(run.run(seen, {"x": inputs})[0], np.full(4, 2 / 3), rtol=1e-6)


def test_the_files_keep_the_budget_and_are_the_same_each_time(
    trained_export: Path, tiny_trained: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "WINDOW", 256)
    graph = Graph(trained_export / "model.onnx")
    weights = sum(int(np.prod(tensor.dims)) for name, tensor in graph.initializers.items() if "_cache" not in name)
    recipe = {"passes": [{"type": "WeightOnlyQuantization", "target_bits": 7.5, "algorithm": "search"}]}
    for name in ("one", "two"):
        quantize(trained_export, recipe, tmp_path / name, tiny_trained, [conversations], context=1024)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    bits = 8 * sum(len(data) for name, data in one.items() if ".onnx" in name) / weights
    assert 6.9 < bits <= 7.5
    assert len(summary(tmp_path / "one" / "model.onnx")["blocks"]) > 1, "not all alike"


def measured(
    export: Path, checkpoint: Path, text: Path, algorithm: str, scratch: Path
) -> tuple[list[Item], np.ndarray]:  # fmt: skip
    path = export / "model.onnx"
    source, windows = Graph(path), calibration.tokens(checkpoint, [text])
    items = of_nodes(source, matrices(source), frequency.order(source, path, windows, print))
    tied = tables(source, items)
    scratch.mkdir()
    sensitivity.measure(source, path, items, windows, 16, tied, algorithm, scratch, print)
    return items, windows


def loss(item: Item, scheme: tuple[int, int, bool]) -> float:
    return next(lost for _, lost, one in item.choices if (one.bits, one.block_size, one.symmetric) == scheme)


@pytest.mark.parametrize("algorithm", ["search", "gptq"])
def test_finer_schemes_cost_less(
    algorithm: str, trained_export: Path, tiny_trained: Path, conversations: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(calibration, "WINDOW", 256)
    items, _ = measured(trained_export, tiny_trained, conversations, algorithm, tmp_path / "rounded")
    assert {item.part.name.split("/")[-2] for item in items} >= {"q_proj", "k_proj", "v_proj", "down_proj", "lm_head"}
    assert any(loss(item, REFERENCE) > 0 for item in items)
    for item in items:
        assert loss(item, (8, 32, True)) <= 0.05 * loss(item, REFERENCE) + 1e-12
        assert loss(item, (4, 16, False)) <= loss(item, (4, 128, False))


def test_what_is_told_of_a_kind_is_what_a_model_loses_by_it(
    trained_export: Path, tiny_trained: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held against a file in which only matrices of that kind are in 4 bits, computed with float activations."""
    monkeypatch.setattr(calibration, "WINDOW", 256)
    items, windows = measured(trained_export, tiny_trained, conversations, "search", tmp_path / "rounded")
    for kind, others in (("v_proj", ["*/[ogu]*_proj/*", "*/down_proj/*"]), ("down_proj", ["*/[oguq]*_proj/*"])):
        given = {"type": "WeightOnlyQuantization", "algorithm": "search", "half_scales": False, "accuracy_level": 1}
        kept = {"quantize_embedding": False, "float_nodes": ["*lm_head*", *others]}
        if kind == "v_proj":  # the others that are in its matrix have 8 bits
            kept |= {"eight_bit_nodes": ["*/q_proj/*", "*/k_proj/*"]}
        quantize(trained_export, {"passes": [given | kept]}, tmp_path / kind)
        told = sum(loss(item, REFERENCE) for item in items if f"/{kind}/" in item.part.name)
        answers = []
        for folder in (trained_export, tmp_path / kind):
            graph = folder / "model.onnx"
            run = inference.session(Graph(graph).model, graph, ["logits"])
            answers.append([run.run(["logits"], inference.feeds(run, window, graph))[0][0] for window in windows])
        lost = np.mean([sensitivity.divergence(*pair) for pair in zip(*answers, strict=True)])
        assert told == pytest.approx(lost, rel=0.4)


@pytest.mark.parametrize("apart", [1e-3, 0.1, 5, 2000])
def test_the_divergence_of_logits_is_that_of_their_probabilities(apart: float) -> None:
    """Also where they are large or far apart, or those of other are shifted, which changes no probability."""
    draw = np.random.default_rng(0)
    truth = draw.normal(0, 30, (9, 500)).astype(np.float32)
    other = (truth + draw.normal(3, apart, truth.shape)).astype(np.float32)
    exact = (values.astype(np.float64) for values in (truth, other))
    p, q = (values - np.logaddexp.reduce(values, axis=1)[:, None] for values in exact)
    wanted = (np.exp(p) * (p - q)).sum(axis=1).mean()
    assert sensitivity.divergence(truth, other) == pytest.approx(wanted, rel=1e-5)

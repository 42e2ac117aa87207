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
from scripts.convert import allocation, calibration, noise
from scripts.convert.allocation import Budget, Item
from scripts.convert.blockwise import Scheme
from scripts.convert.graph import Graph, summary
from scripts.convert.quantize import quantize


def made_up(seed: int) -> list[Item]:
    draw = np.random.default_rng(seed)
    items = []
    for number in range(4):
        bits = np.cumsum(draw.integers(1, 9, 4)).astype(float)
        losses = np.sort(draw.random(4))[::-1]
        pairs = enumerate(zip(bits, losses, strict=True))
        choices = [(float(b), float(loss), Scheme(4, 16 << i, symmetric=False)) for i, (b, loss) in pairs]
        items.append(Item(f"w{number}", (1, 1), "", 0, [], "", choices))
    return items


@pytest.mark.parametrize("seed", range(20))
def test_no_allocation_that_costs_as_little_loses_less_by_more_than_one_step(seed: int) -> None:
    """The hull is what greedy sees; against every allocation there is, at most the last step is left out."""
    items = made_up(seed)
    every = [choice for item in items for choice in item.choices]
    low, high = (sum(end(choice[0] for choice in item.choices) for item in items) for end in (min, max))
    for target in np.linspace(low, high, 7):
        chosen = allocation.allocate(items, Budget(float(target), 0.0, 1))
        picked = [next(c for c in item.choices if c[2] == chosen[item.weight]) for item in items]
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
    item = Item("w", (1, 1), "", 0, [], "", [(4.0, 0.0, schemes[0]), (8.0, 0.0, schemes[1])])
    assert allocation.allocate([item], Budget(7.0, 0.0, 1)) == {"w": schemes[0]}


def test_a_token_whose_inputs_are_all_zero_counts_as_nothing() -> None:
    graph = onnx.parser.parse_graph("g (float[1, T, 4] x) => (float[1, T, 4] y) { y = Identity(x) }")
    made = onnx.helper.make_model(graph)
    inputs = np.zeros((1, 3, 4), np.float32)
    inputs[0, 1:] = 2
    seen = noise.shares(made, ["x"])
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


def test_noise_where_the_model_feels_it_costs_more(
    trained_export: Path, tiny_trained: Path, conversations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "WINDOW", 256)
    source = Graph(trained_export / "model.onnx")
    from scripts.convert.weightonly import matrices

    items = allocation._items(source, matrices(source))
    windows = calibration.tokens(tiny_trained, [conversations])
    tied = allocation._tables(source, items)
    allocation.measure(source, trained_export / "model.onnx", items, windows, 16, tied, "search", lambda _: None)
    for item in items:
        by_scheme = {(s.bits, s.block_size, s.symmetric): loss for _, loss, s in item.choices}
        assert by_scheme[8, 32, True] < 0.05 * by_scheme[4, 32, False] + 1e-12
        assert by_scheme[4, 16, False] <= by_scheme[4, 128, False]

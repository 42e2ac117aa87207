"""What is said about a whole text, and how sure of it one can be."""

from __future__ import annotations

import itertools
import json
import time

import numpy as np
import pytest

from scripts.quality.tally import Tally, bootstrap_sums
from scripts.results import base

RNG = np.random.default_rng


def tally(kl: np.ndarray, *, sure: bool = True) -> Tally:
    """One of a text with those KL per position, where half of the first choices agree."""
    loss = RNG(1).gamma(2.0, size=len(kl))
    agree = np.arange(len(kl)) % 2 == 0
    return Tally([kl], [agree], [np.full(len(kl), sure)], [loss + 0.1], [loss])


def correlated(seed: int, n: int) -> np.ndarray:
    """Positive, skewed, and like its neighbours: what KL along a text is. Its long-run mean is exp(0.5)."""
    noise, values = RNG(seed).normal(size=n + 50), [0.0]
    for step in noise:
        values.append(0.5 * values[-1] + 0.75**0.5 * step)
    positive: np.ndarray = np.exp(np.array(values[-n:]))
    return positive


def test_intervals_hold_the_truth_although_positions_are_not_independent() -> None:
    """At 95 % nominal; a bootstrap of single positions, taken beside it, is far from that."""
    hits = naive = 0
    for seed in range(200):
        kl = correlated(seed, 400)
        low, high = np.quantile(bootstrap_sums(kl[None])[0] / len(kl), (0.025, 0.975))
        hits += low < np.exp(0.5) < high
        error = 1.96 * kl.std() / len(kl) ** 0.5
        naive += abs(kl.mean() - np.exp(0.5)) < error
    assert hits >= 170
    assert naive < hits - 10


def test_intervals_of_independent_positions_are_those_of_the_textbook() -> None:
    kl = RNG(3).normal(1.0, 0.1, size=3000)
    figures = tally(kl).figures()
    assert figures.kl_interval
    low, high = figures.kl_interval
    error = kl.std() / len(kl) ** 0.5
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.2)
    assert low < figures.kl < high


def test_the_same_numbers_give_the_same_bytes_quickly() -> None:
    kl = correlated(0, 1023)
    started = time.process_time()
    first = json.dumps(base.plain(tally(kl).figures()), allow_nan=False)
    assert time.process_time() - started < 0.2
    assert json.dumps(base.plain(tally(kl).figures()), allow_nan=False) == first


def test_pieces_do_not_matter() -> None:
    kl = correlated(5, 400)
    whole = tally(kl)
    parts = Tally(*(np.split(values[0], [7, 150]) for values in vars(whole).values()))
    assert parts.figures() == whole.figures()


def test_a_ratio_and_its_interval_speak_of_the_same_thing() -> None:
    figures = tally(correlated(1, 500)).figures()
    assert figures.perplexity_ratio == pytest.approx(np.exp(0.1), rel=1e-5)
    assert figures.perplexity_ratio_interval == pytest.approx([np.exp(0.1)] * 2, rel=1e-5)
    assert figures.perplexity / figures.perplexity_float == pytest.approx(figures.perplexity_ratio, rel=1e-5)


@pytest.mark.parametrize("n", [31, 32, 255, 256, 257, 1023, 5000])
def test_kl_along_the_text_covers_it_in_equal_parts(n: int) -> None:
    kl = correlated(2, n)
    parts = tally(kl).figures().kl_by_position
    assert len(parts) <= 32
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == n
    sizes = [part.end - part.start for part in parts]
    assert len(set(sizes[:-1])) <= 1
    assert max(sizes) == sizes[0]
    assert np.average([part.kl for part in parts], weights=sizes) == pytest.approx(kl.mean(), rel=1e-4)


def test_agreement_where_the_float_model_is_sure_of_nothing_is_not_made_up() -> None:
    figures = tally(correlated(4, 64), sure=False).figures()
    assert figures.top1 is None
    assert figures.top1_interval is None
    assert figures.top1_all == 0.5
    assert figures.sure_positions == 0


def test_a_model_that_is_certain_of_the_wrong_token_has_finite_figures() -> None:
    """1e5 nats of loss: e to that power is no number."""
    values = np.zeros((40, 6))
    values[:, 2] = 1e5
    one = Tally()
    one.add(np.zeros((40, 6)), values, np.ones(40, np.int32))
    figures = one.figures()
    json.dumps(base.plain(figures), allow_nan=False)
    assert figures.perplexity > 1e300
    assert figures.kl > 1e4


def test_every_position_is_drawn_as_often_as_any_other() -> None:
    """Else a text's first and last words would count less."""
    means = [bootstrap_sums(np.eye(1, 30, at))[0].mean() for at in (0, 1, 15, 28, 29)]
    for one, other in itertools.pairwise(means):
        assert one == pytest.approx(other, abs=0.12)
    assert np.mean(means) == pytest.approx(1, abs=0.05)

"""Intervals hold the truth as often as they say, found by going through every outcome there can be."""

from __future__ import annotations

import math

import pytest

from scripts.quality import paired

#: Shares of cases that both, the first alone, the second alone and neither of two models pass.
TRUTHS = [
    (0.9, 0.02, 0.05, 0.03), (0.7, 0.0, 0.05, 0.25), (0.1, 0.8, 0.02, 0.08), (0.5, 0.1, 0.2, 0.2), (0.0, 0.9, 0.0, 0.1),
    (0.3, 0.3, 0.2, 0.2), (0.97, 0.005, 0.02, 0.005), (0.95, 0.0, 0.05, 0.0),
]  # fmt: skip


def test_the_interval_of_a_score_is_that_of_its_few_cases() -> None:
    assert paired.wilson(25, 32) == [61.25, 88.98]
    assert paired.wilson(0, 3) == [0.0, 56.15]
    assert paired.wilson(3, 3) == [43.85, 100.0]


@pytest.mark.parametrize("asked", [8, 32])
@pytest.mark.parametrize("truth", TRUTHS)
def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says(
    truth: tuple[float, float, float, float], asked: int
) -> None:
    """Of 95 %, by its paper within a point or two of that, and never far below."""
    right, held = 100 * (truth[1] - truth[2]), 0.0
    for both in range(asked + 1):
        for first in range(asked + 1 - both):
            for second in range(asked + 1 - both - first):
                counts = (both, first, second, asked - both - first - second)
                low, high = paired.difference(*counts)
                if low - 0.01 <= right <= high + 0.01:
                    held += _chance(counts, truth)
    assert held >= 0.94


def _chance(counts: tuple[int, ...], truth: tuple[float, ...]) -> float:
    ways = math.factorial(sum(counts)) // math.prod(map(math.factorial, counts))
    return ways * math.prod(share**count for share, count in zip(truth, counts, strict=True))


def test_where_no_case_parts_two_models_the_interval_is_not_nothing() -> None:
    assert paired.difference(28, 0, 0, 4) == [-9.91, 9.91]
    assert paired.difference(300, 0, 0, 0) == [-1.26, 1.26]
    assert paired.difference(1, 0, 0, 0) == [-79.35, 79.35]


def test_to_change_the_two_about_turns_the_interval_round() -> None:
    low, high = paired.difference(20, 7, 2, 3)
    assert paired.difference(20, 2, 7, 3) == [-high, -low]


def test_chance_is_that_of_the_binomial_test() -> None:
    assert [paired.mcnemar(*pair) for pair in ((0, 0), (1, 1), (1, 0), (6, 0), (0, 6))] == [1, 1, 1, 0.03125, 0.03125]
    assert paired.mcnemar(12, 3) == pytest.approx(0.035156, abs=1e-6)  # as in the textbooks' tables
    assert paired.mcnemar(0, 5000) == 0
    for lost in range(12):
        for won in range(12):
            flips = range(2 ** (lost + won)) if lost + won < 9 else ()
            far = [abs(2 * flip.bit_count() - lost - won) >= abs(lost - won) for flip in flips]
            assert not far or paired.mcnemar(lost, won) == pytest.approx(sum(far) / len(far), abs=1e-6)

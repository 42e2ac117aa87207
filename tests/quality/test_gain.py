"""What fine-tuning gained and what of it is kept: points, shares and intervals, from the answers alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

from scripts.quality import paired
from scripts.quality.gain import gained
from scripts.results.domain import Answer, Domain


def scored(passed: Sequence[bool], digest: str = "same") -> Domain:
    rows = [Answer(id=str(n), text="", passed=right, failures=[]) for n, right in enumerate(passed)]
    score = round(100 * sum(passed) / len(passed), 2)
    return Domain(verdict="passed", reasons=[], score=score, cases=rows, digest=digest)


def test_a_gain_is_the_difference_of_the_scores_case_by_case() -> None:
    before, after = scored([True, False, False, False]), scored([False, True, True, False])
    found = gained(before, after)
    assert found.points == 25.0
    assert (found.won, found.lost) == (["1", "2"], ["0"])
    assert found.points_interval == paired.difference(0, 2, 1, 1)
    assert found.kept is None


def test_a_precision_keeps_its_share_of_what_the_float_model_gained() -> None:
    before, whole = scored([False] * 40), scored([True] * 32 + [False] * 8)
    part = scored([True] * 24 + [False] * 16)
    found = gained(before, part, whole)
    assert (found.points, found.kept) == (60.0, 75.0)
    assert found.kept_interval
    low, high = found.kept_interval
    assert low < 75 < high
    # As good as the float model in every case, it may still be worse: forty cases do not exclude it.
    same = gained(before, whole, whole)
    assert same.kept_interval
    low, high = same.kept_interval
    assert low < 100 < high


def test_of_a_gain_within_noise_there_is_no_share() -> None:
    before, whole = scored([True] * 5 + [False] * 5), scored([True] * 6 + [False] * 4)
    found = gained(before, whole, whole)
    assert (found.points, found.kept, found.kept_interval) == (10.0, None, None)
    worse = gained(whole, scored([False] * 10), scored([False] * 10))
    assert worse.points == -60.0
    assert worse.kept is None


def test_answers_to_other_cases_are_not_compared() -> None:
    assert gained(scored([True]), scored([True], "other")) is None
    found = gained(scored([False] * 9), scored([True] * 9), scored([True] * 9, "other"))
    assert found.kept is None


def test_the_interval_of_a_share_holds_the_truth_at_least_as_often_as_it_says() -> None:
    """Before fine-tuning the model passes one case in twenty, after it nine in ten; the precision, three in four."""
    draw = random.Random(4)
    held = told = 0
    for _ in range(1500):
        rows = []
        for _ in range(32):
            hard, luck = draw.random(), draw.random()
            rows.append((luck < 0.05, hard < 0.9, hard < 0.75))
        before, whole, part = (scored([row[i] for row in rows]) for i in range(3))
        interval = gained(before, part, whole).kept_interval
        if interval is not None:
            told += 1
            held += interval[0] <= 100 * (0.75 - 0.05) / (0.9 - 0.05) <= interval[1]
    assert told > 1400
    assert held / told >= 0.95

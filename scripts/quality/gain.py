"""What fine-tuning gained on the cases, and which share of that a precision keeps, each with an interval."""

from __future__ import annotations

from scripts.quality import paired
from scripts.results.base import Interval
from scripts.results.domain import Domain, Gain


def gained(before: Domain, after: Domain, of_float: Domain | None = None) -> Gain | None:
    """What `after` scores more than `before`; None where they were not asked the same.

    With `of_float`, the fine-tuned float export's result, also which share of that one's gain `after` keeps.
    """
    if before.digest != after.digest:
        return None
    old, new = ({row.id: row.passed for row in result.cases} for result in (before, after))
    interval, won, lost = paired.of_answers(new, old)
    share, ends = (None, None) if of_float is None else kept(before, after, of_float)
    return Gain(
        points=round(after.score - before.score, 2), points_interval=interval, won=won, lost=lost,
        p_value=paired.mcnemar(len(lost), len(won)), kept=share, kept_interval=ends,
    )  # fmt: skip


def kept(before: Domain, after: Domain, of_float: Domain) -> tuple[float | None, Interval | None]:
    """The share of the float export's gain that `after` keeps, in %, and its interval; None where nothing was gained
    for sure.

    kept = 1 + difference / gain, and each end of its interval is that of the difference over the least gain. Both
    intervals are of 95 %, so that theirs together holds at least 90 % of the time, and in fact far more often: the
    gain is seldom at its least where the difference is at its worst.
    """
    if not before.digest == after.digest == of_float.digest:
        return None, None
    base, whole, part = ({row.id: row.passed for row in result.cases} for result in (before, of_float, after))
    least = paired.of_answers(whole, base)[0][0]
    if least <= 0:
        return None, None
    gain = of_float.score - before.score
    low, high = paired.of_answers(part, whole)[0]
    share = 100 * (after.score - before.score) / gain
    return round(share, 2), [round(100 * (1 + end / least), 2) for end in (low, high)]

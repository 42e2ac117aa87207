"""How sure a comparison of two models on the same cases is: intervals of shares and of their difference, and chance.

Cases are few, and two models pass most of the same ones: what parts them are the cases that only one passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scripts.results.base import Interval

#: Of the normal distribution: 95 % lie within so many standard deviations.
_Z = 1.959964


def wilson(passed: int, asked: int) -> Interval:
    """The 95 % interval of a share, in %, by Wilson's score (1927), which holds for few cases and at 0 and 100 %."""
    low, high = _wilson(passed, asked)
    return [round(100 * low, 2), round(100 * high, 2)]


def _wilson(passed: int, asked: int) -> tuple[float, float]:
    z2, share = _Z**2, passed / asked
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    reach = _Z / (1 + z2 / asked) * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def difference(both: int, only_first: int, only_second: int, neither: int) -> Interval:
    """The 95 % interval of the first's score less the second's, in points, on cases that were put to both.

    Newcombe's tenth method (Statistics in Medicine 17, 1998, 2635-2650): Wilson's intervals of the two shares, put
    together with the correlation of the answers. It does not shrink to nothing where no case parts the two.
    """
    asked = both + only_first + only_second + neither
    first, second = (both + only_first) / asked, (both + only_second) / asked
    (low, high), (low2, high2) = _wilson(both + only_first, asked), _wilson(both + only_second, asked)
    together = both * neither - only_first * only_second
    if together > 0:
        together = max(together - asked / 2, 0)  # type: ignore[assignment]
    odds = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    like = together / math.sqrt(odds) if odds else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * like * one * other + other**2))

    middle = first - second
    ends = middle - reach(first - low, high2 - second), middle + reach(high - first, second - low2)
    return [round(100 * max(-1.0, ends[0]), 2), round(100 * min(1.0, ends[1]), 2)]


def of_answers(first: Mapping[str, bool], second: Mapping[str, bool]) -> tuple[Interval, list[str], list[str]]:
    """The interval of `difference` for two models' cases by id, and the ids that only the first, or the second, passes.

    Both must have been asked the same.
    """
    won = [name for name, passed in first.items() if passed and not second[name]]
    lost = [name for name, passed in first.items() if not passed and second[name]]
    both = sum(passed and second[name] for name, passed in first.items())
    return difference(both, len(won), len(lost), len(first) - both - len(won) - len(lost)), won, lost


def mcnemar(lost: int, won: int) -> float:
    """How often chance alone would part two models at least as far on the cases that only one of them passes.

    McNemar's test in its exact form: two-sided, by the binomial distribution of even odds.
    """
    count = lost + won
    tail = sum(math.comb(count, k) for k in range(min(lost, won) + 1))
    return round(min(1.0, 2 * tail / (1 << count)), 6)

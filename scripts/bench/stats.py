"""What can be said of samples: percentiles, the noise floor of a run, ratios and growths with their intervals.

Every interval comes of resampling with a fixed seed, so the same samples give the same figures. What is resampled is
never a single reading but a *block*, a process of its own or a stretch of time: neighbouring readings on a shared
machine are alike, and to take them for independent would state too narrow an interval.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.results.base import Interval, Percentiles

RESAMPLES = 2000
#: By blocks in a run: how many standard deviations of a block 99 of 100 pairs of runs of the same thing differ by at
#: most. Simulated for normal blocks, with the larger deviation of the two runs. Few blocks know their own deviation
#: badly, hence the steepness. Twice as much is exceeded by 3 pairs of 10,000, which is what many comparisons need.
_SPREAD = {2: 8.0, 3: 3.15, 4: 2.26, 5: 1.86, 6: 1.62, 8: 1.34}
#: The same for runs that go on until they know enough (`quick`: after 3 blocks where the noise is at most 5 %, else
#: after 4): a run ends early where its blocks happen to agree, so they are farther apart than they look.
ENDED_EARLY = {2: 8.0, 3: 3.7, 4: 2.55}
#: The work beside attention's own grows with the prompt's length, attention with its square: no exact attention needs
#: more. What grows faster does not compute: it swaps, copies its cache, or allocates anew.
EXPONENT_LIMIT = 2.0


def percentiles(values: Sequence[float]) -> Percentiles:
    """p50, p90 and p99, interpolated between neighbours; None where nothing was measured."""
    ordered = sorted(values)
    found = {f"p{share}": round(quantile(ordered, share / 100), 3) if ordered else None for share in (50, 90, 99)}
    return Percentiles(**found)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ascending values lie, interpolated."""
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def first_token_ms(request: Mapping[str, Any]) -> float:
    """Time to first token; of an answer without text, the whole latency."""
    return float(request["at_ms"][0] if request["at_ms"] else request["done_ms"])


def between_tokens_ms(request: Mapping[str, Any]) -> float | None:
    """AIPerf's inter-token latency: (last piece - first piece) / (output tokens - 1); None of a single token."""
    if request["completion_tokens"] < 2 or len(request["at_ms"]) < 2:
        return None
    return float((request["at_ms"][-1] - request["at_ms"][0]) / (request["completion_tokens"] - 1))


def latencies(requests: Sequence[Mapping[str, Any]]) -> dict[str, Percentiles]:
    """Percentiles of TTFT, inter-token latency and request latency over requests, in milliseconds."""
    return {
        "time_to_first_token_ms": percentiles([first_token_ms(r) for r in requests]),
        "inter_token_latency_ms": percentiles([x for r in requests if (x := between_tokens_ms(r)) is not None]),
        "request_latency_ms": percentiles([r["done_ms"] for r in requests]),
    }


def noise(blocks: Sequence[float | None], spreads: Mapping[int, float] = _SPREAD) -> float | None:
    """The A/A floor: the share by which a figure of two such runs of one package may differ by chance.

    `blocks` are the figure as each block alone would state it, each from a process of its own, so that they differ by
    all that two runs differ by: layout in memory, clock, what else the machine did. None for fewer than two blocks.
    `spreads`: how many blocks there are decides how many of their standard deviations that is.
    """
    found = [value for value in blocks if value is not None]
    if len(found) < 2 or not (mean := statistics.fmean(found)):
        return None
    spread = spreads[max(size for size in spreads if size <= len(found))]
    return round(spread * statistics.stdev(found) / abs(mean), 4)


def resampled(
    blocks: Sequence[Any], figure: Callable[[list[Any]], float | None], share: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap over blocks: the interval that holds `share` of what resampled blocks give."""
    draw = random.Random(0)
    found = sorted(
        value for _ in range(RESAMPLES) if (value := figure([draw.choice(blocks) for _ in blocks])) is not None
    )
    rest = (1 - share) / 2
    return (quantile(found, rest), quantile(found, 1 - rest)) if found else None


def ratio(ones: Sequence[float], others: Sequence[float]) -> tuple[float, Interval]:
    """Ones / others and its 95 % interval, from blocks that alternated: pairs, so that a drift hits both alike."""
    pairs = list(zip(ones, others, strict=True))

    def of(some: Sequence[tuple[float, float]]) -> float:
        return sum(a for a, _ in some) / sum(b for _, b in some)

    interval = resampled(pairs, of) or (0.0, 0.0)
    return round(of(pairs), 3), [round(value, 3) for value in interval]


def exponent(samples: Mapping[int, Sequence[float]]) -> tuple[float, Interval]:
    """How a time grows with the number of tokens: the slope in log-log, and its 95 % interval.

    samples: tokens -> times of the requests of that length. Within a length the times are resampled; the slope is
    that of the medians, by least squares. Linear work has slope 1, attention alone 2. Needs two lengths.
    """
    draw = random.Random(0)

    def slope(medians: Mapping[int, float]) -> float:
        x = [math.log(tokens) for tokens in medians]
        return statistics.linear_regression(x, [math.log(value) for value in medians.values()]).slope

    def again(times: Sequence[float]) -> float:
        return statistics.median([draw.choice(times) for _ in times])

    ends = sorted(slope({n: again(times) for n, times in samples.items()}) for _ in range(RESAMPLES // 4))
    found = slope({n: statistics.median(times) for n, times in samples.items()})
    return round(found, 3), [round(quantile(ends, 0.025), 3), round(quantile(ends, 0.975), 3)]


def climb(values: Sequence[float], blocks: int = 12) -> tuple[float, Interval]:
    """By how much a series rises a step, and a 95 % interval.

    The series is cut into `blocks`; the slope is Theil and Sen's of the blocks' medians (the median of the slopes of
    all pairs), the interval that of resampled blocks. So readings off the line move nothing, and neighbours, which are
    alike, are not taken for independent. Needs two values a block.
    """
    import numpy as np

    size = len(values) / blocks
    at = (np.arange(blocks) + 0.5) * size
    medians = np.array([statistics.median(values[int(i * size) : int((i + 1) * size)]) for i in range(blocks)])
    with np.errstate(invalid="ignore"):  # 0 / 0 of a block and itself
        slopes = (medians[:, None] - medians) / (at[:, None] - at)
    picked = np.sort(np.random.default_rng(0).integers(0, blocks, (RESAMPLES, blocks)), axis=1)
    first, second = np.triu_indices(blocks, 1)  # of a block drawn twice, the pair with itself has no slope
    found = np.nanmedian(slopes[picked[:, first], picked[:, second]], axis=1)
    interval = [round(float(end), 1) for end in np.nanquantile(found, (0.025, 0.975))]
    return round(float(np.nanmedian(slopes[first, second])), 1), interval


def without_jumps(values: Sequence[float], least: float) -> tuple[list[float], list[tuple[int, float]]]:
    """The series without its rises by more than `least` from one value to the next; and (index, rise) of each."""
    jumps = [(i, b - a) for i, (a, b) in enumerate(itertools.pairwise(values), 1) if b - a > least]
    return [value - sum(rise for place, rise in jumps if place <= i) for i, value in enumerate(values)], jumps

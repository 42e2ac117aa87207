"""Does memory grow over requests? Hundreds of them, of mixed lengths, with the serving process's memory after each.

The limit. A server that answers one request a second answers 86,400 a day; what leaks 10 kB each has lost 0.86 GB by
then, and that is what we refuse: it would have to be restarted every few days. Less is not told from the allocator's
habits in a few minutes. The first requests are dropped: memory is claimed for each length that is met for the first
time, and kept.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scripts.bench import conditions, stats
from scripts.bench.child import Child, Died, Refused
from scripts.bench.quick import prompt
from scripts.common.errors import IngotError
from scripts.results import measured
from scripts.results.base import Interval, Verdict
from scripts.results.bench import Memory, Soak

REQUESTS, WARM_UP = 300, 40
LIMIT = 10_000  # bytes a request
WORDS, TOKENS = (4, 16, 48, 112), (4, 12, 20)
#: A jump is a rise from one request to the next by more than this share of all that is resident: another arena of
#: malloc's, say. So many are no leak.
STEP, JUMPS = 0.1, 2
LEAST = 24  # requests: two for each stretch of the fit


class Trend(NamedTuple):
    """Bytes a request, with a 95 % interval, and what was left out: (index, rise) of each jump."""

    slope: float
    interval: Interval
    jumps: list[tuple[int, float]]


def soak(package: Path, requests: int = REQUESTS, command: Sequence[str] | None = None) -> Soak:
    """Ask `requests` questions, after a warm-up; returns the content of soak.json. Bytes, seconds.

    `command` replaces the process that serves, with another that speaks its protocol. Raises `IngotError` for fewer
    than `LEAST` requests, and if the package does not load.
    """
    if requests < LEAST:
        raise IngotError("--requests", f"is {requests}", f"Give at least {LEAST}: less shows no trend")
    neighbours = conditions.Neighbours()
    begin = time.monotonic()
    warm_up = min(WARM_UP, requests)
    questions = _questions(warm_up + requests)
    sizes: list[int] = []
    failures: list[str] = []
    died = None
    with Child(package, command) as child:
        child.ask({"do": "load"})
        for number, question in enumerate(questions):
            try:
                child.ask(question)
            except Refused as error:
                failures.append(error.found)
            except Died as error:
                died = f"{error.found}, the {number + 1}th"
                break
            sizes.append(child.rss())
            if (number + 1) % 20 == 0:
                print(f"soak: {number + 1} of {len(questions)} requests, {sizes[-1] / 1e6:.0f} MB", flush=True)
    kept = sizes[warm_up:]
    trend = trend_of(kept) if len(kept) >= LEAST else None
    verdict, reasons = judge(trend, failures, died)
    return Soak(
        verdict=verdict,
        reasons=reasons,
        requests=len(kept),
        failures=len(failures) + bool(died),
        failed_with=sorted(set(failures)),
        rss=[Memory(request=i, bytes=size) for i, size in enumerate(kept, 1)],
        warm_up_rss=[Memory(request=i - warm_up, bytes=size) for i, size in enumerate(sizes[:warm_up], 1)],
        slope_bytes_per_request=trend.slope if trend else None,
        slope_interval=trend.interval if trend else None,
        jumps=[Memory(request=i + 1, bytes=round(rise)) for i, rise in trend.jumps] if trend else [],
        limit_bytes_per_request=LIMIT,
        seconds=round(time.monotonic() - begin, 1),
        package=None if command else measured.digest(package),
        conditions={
            **({} if command else conditions.of_package(package)),
            "profile": "soak",
            "warm_up_requests": warm_up,
            "prompt_words": list(WORDS),
            "new_tokens_at_most": list(TOKENS),
            "slope_by": "Theil and Sen's, of the medians of twelve stretches without the jumps; interval by resampling",
            "memory_by": "psutil, from outside the process that serves, after each request",
            **neighbours.conditions(),
            **conditions.of_machine(),
        },
    )


def trend_of(sizes: Sequence[int]) -> Trend:
    """The slope of resident bytes over requests; one jump or two are taken out of it, since a leak goes on."""
    level, jumps = stats.without_jumps(sizes, STEP * sizes[0])
    slope, interval = stats.climb(level if len(jumps) <= JUMPS else sizes)
    return Trend(slope, interval, jumps)


def judge(trend: Trend | None, failures: Sequence[str], died: str | None = None) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons."""
    reasons = [died] if died else []
    if trend and trend.interval[0] > LIMIT:
        least = f"{trend.interval[0] / 1000:.0f} kB"
        reasons.append(f"resident memory grows by at least {least} a request; the limit is {LIMIT / 1000:.0f}")
    if failures:
        reasons.append(f"{len(failures)} requests failed: {'; '.join(sorted(set(failures)))[:300]}")
    if reasons:
        return "refused", reasons
    if trend and trend.jumps:
        told = " and ".join(f"{rise / 1e6:.0f} MB at request {place + 1}" for place, rise in trend.jumps)
        return "warned", [f"resident memory jumped by {told}, and is level otherwise"]
    return "passed", []


def _questions(count: int) -> list[dict[str, Any]]:
    """Every length with every length of answer, in an order that is the same each time and mixes all from the start."""
    kinds = list(itertools.product(WORDS, TOKENS))
    draw = random.Random(0)
    plan: list[tuple[int, int]] = []
    while len(plan) < count:
        plan += draw.sample(kinds, len(kinds))
    return [{"do": "ask", "prompt": prompt(w, i), "tokens": t} for i, (w, t) in enumerate(plan[:count])]

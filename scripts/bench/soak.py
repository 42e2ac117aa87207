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
from typing import Any

from scripts.bench import conditions, stats
from scripts.bench.child import Child, Died, Refused
from scripts.bench.quick import prompt
from scripts.engine.errors import IngotError

REQUESTS, WARM_UP = 300, 40
LIMIT = 10_000  # bytes a request
WORDS, TOKENS = (4, 16, 48, 112), (4, 12, 20)
STEP = 0.1  # a rise between two requests of more than this share of all that is resident is told


def soak(package: Path, requests: int = REQUESTS, command: Sequence[str] | None = None) -> dict[str, Any]:
    """Ask `requests` questions, after a warm-up; returns the fields of soak.json. Bytes, seconds.

    `command` replaces the process that serves, with another that speaks its protocol. Raises `IngotError` for fewer
    than 24 requests, and if the package does not load.
    """
    if requests < 24:
        raise IngotError("--requests", f"is {requests}", "Give at least 24: less shows no trend")
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
    slope, interval = stats.climb(kept) if len(kept) >= 24 else (None, None)
    verdict, reasons = judge(kept, interval, failures, died)
    return {
        "verdict": verdict,
        "reasons": reasons,
        "requests": len(kept),
        "failures": len(failures) + bool(died),
        "failed_with": sorted(set(failures)),
        "rss": [{"request": i, "bytes": size} for i, size in enumerate(kept, 1)],
        "warm_up_rss": [{"request": i - warm_up, "bytes": size} for i, size in enumerate(sizes[:warm_up], 1)],
        "slope_bytes_per_request": slope,
        "slope_interval": interval,
        "limit_bytes_per_request": LIMIT,
        "seconds": round(time.monotonic() - begin, 1),
        "conditions": {
            **({} if command else conditions.of_package(package)),
            "profile": "soak",
            "warm_up_requests": warm_up,
            "prompt_words": list(WORDS),
            "new_tokens_at_most": list(TOKENS),
            "slope_by": "rises between the medians of twelve stretches, averaged; interval by resampling the rises",
            "memory_by": "psutil, from outside the process that serves, after each request",
            **neighbours.conditions(),
            **conditions.of_machine(),
        },
    }


def judge(
    sizes: Sequence[int], interval: Sequence[float] | None, failures: Sequence[str], died: str | None = None
) -> tuple[str, list[str]]:
    """The verdict and its reasons, from resident bytes after each request and the interval of their slope."""
    reasons = [died] if died else []
    if interval is not None and interval[0] > LIMIT:
        reasons.append(
            f"resident memory grows by at least {interval[0] / 1000:.0f} kB a request; the limit is {LIMIT / 1000:.0f}"
        )
    if failures:
        reasons.append(f"{len(failures)} requests failed: {'; '.join(sorted(set(failures)))[:300]}")
    if reasons:
        return "refused", reasons
    rises = [(b - a, i) for i, (a, b) in enumerate(itertools.pairwise(sizes), 2)]
    rise, place = max(rises, default=(0, 0))
    if rise > STEP * sizes[0]:
        return "warned", [f"resident memory rose by {rise / 1e6:.0f} MB at once, at request {place}, and did not go on"]
    return "passed", []


def _questions(count: int) -> list[dict[str, Any]]:
    """Every length with every length of answer, in an order that is the same each time and mixes all from the start."""
    kinds = list(itertools.product(WORDS, TOKENS))
    draw = random.Random(0)
    plan: list[tuple[int, int]] = []
    while len(plan) < count:
        plan += draw.sample(kinds, len(kinds))
    return [{"do": "ask", "prompt": prompt(w, i), "tokens": t} for i, (w, t) in enumerate(plan[:count])]

"""The verdict of the full profile: does a longer prompt cost what attention costs, and no more?

Prefill. A prompt of n tokens costs a share that is the same for each (projections, feed-forward) and one that grows
with its place (attention): a·n + b·n². In log-log the slope lies between 1 and 2, below 1 where a fixed cost weighs.
More than 2 is not attention: it is swapping, a cache copied at each step, memory allocated again and again.

Decode. A token reads the weights once, and the keys and values of all tokens before it. Where reading is what costs,
the rate at n tokens is W / (W + K·n) of that at the start. Attention's kernels get less out of a processor than the
weights' do, so a quarter of that share is the limit. Measured at 4,000 tokens (SmolLM2-135M, 4 bits, 2 cores): reading
explains 0.38, found 0.26; with a cache that is copied at each token, 0.08, which is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.bench import stats
from scripts.results.bench import Context, Growth, Level

DECODE_LENIENCE = 4.0


def growth(first_tokens: Mapping[int, Sequence[float]], decode: tuple[float, float] | None) -> Growth | None:
    """The exponent of TTFT over prompt tokens, and how much of the decode rate is left; None of a single length.

    first_tokens: prompt tokens -> times to first token, ms. decode: rate at the longest as a share of that at the
    shortest, and the least that it may be.
    """
    if len(first_tokens) < 2:
        return None
    found, interval = stats.exponent(first_tokens)
    return Growth(
        metric="time_to_first_token_ms",
        exponent=found,
        interval=interval,
        limit=stats.EXPONENT_LIMIT,
        decode_ratio=round(decode[0], 3) if decode else None,
        decode_limit=round(decode[1], 3) if decode else None,
    )


def decode_share(contexts: Sequence[Context], facts: Mapping[str, Any]) -> tuple[float, float] | None:
    """The decode rate at the longest prompt over that at the shortest, and its limit; None where either is unknown."""
    short, long = contexts[0], contexts[-1]
    first, last = short.decode_tokens_per_second.p50, long.decode_tokens_per_second.p50
    buffer = facts["key_value_buffer_bytes"]
    if first is None or last is None or buffer is None or short is long:
        return None
    weights, per_token = facts["size_bytes"], buffer / facts["context_length"]
    reads = [weights + per_token * context.prompt_tokens for context in (short, long)]
    return last / first, reads[0] / reads[1] / DECODE_LENIENCE


def reasons(growth: Growth | None, levels: Sequence[Level]) -> list[str]:
    """Why a package is refused; nothing where it passes."""
    found = []
    if growth and growth.interval[0] > growth.limit:
        found.append(
            f"time to first token grows with the prompt's length to the power of {growth.exponent} "
            f"(at least {growth.interval[0]}); attention needs no more than {growth.limit}"
        )
    if growth and growth.decode_ratio is not None and growth.decode_ratio < (growth.decode_limit or 0):
        found.append(
            f"at the longest prompt {growth.decode_ratio:.0%} of the decode rate is left; reading weights and cache "
            f"explains {growth.decode_limit:.0%} at the least"
        )
    for level in levels:
        if level.failures:
            what = "; ".join(level.failed_with)
            found.append(f"{level.failures} of {level.requests} requests of {level.clients} clients failed: {what}")
    return found

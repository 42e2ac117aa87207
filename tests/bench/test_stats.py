"""What is said of samples holds: percentiles, noise, growth, and the verdicts on them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.bench import conditions, judge, stats
from scripts.bench.full import NEW_TOKENS, ladder
from scripts.results.base import Percentiles
from scripts.results.bench import Context, Level

LENGTHS = (128, 512, 2048, 4056)


def of(value: float | None) -> Percentiles:
    return Percentiles(p50=value, p90=value, p99=value)


def times(power: float, spread: float = 0.05, seed: int = 0, fixed: float = 0.0) -> dict[int, list[float]]:
    """Milliseconds to the first token that grow as tokens ** power, with so much noise."""
    draw = random.Random(seed)
    return {n: [fixed + (n**power) * draw.lognormvariate(0, spread) for _ in range(4)] for n in LENGTHS}


def refused(samples: dict[int, list[float]], decode: tuple[float, float] | None = None) -> list[str]:
    return judge.reasons(judge.growth(samples, decode), [])


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_growth_that_attention_explains_passes(power: float) -> None:
    assert refused(times(power)) == []


def test_linear_growth_is_seen_as_such() -> None:
    found, (low, high) = stats.exponent(times(1.0))
    assert low < 1.0 < high
    assert found == pytest.approx(1.0, abs=0.05)


def test_cubic_growth_is_refused() -> None:
    (reason,) = refused(times(3.0))
    assert "to the power of 3" in reason


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), linear=st.floats(0.1, 10), square=st.floats(1e-5, 1e-2), fixed=st.floats(0, 500))
def test_any_sum_of_linear_and_square_work_passes(seed: int, linear: float, square: float, fixed: float) -> None:
    draw = random.Random(seed)
    samples = {
        n: [(fixed + linear * n + square * n * n) * draw.lognormvariate(0, 0.1) for _ in range(4)] for n in LENGTHS
    }
    assert refused(samples) == []


def test_a_decode_rate_that_collapses_is_refused_and_one_that_pays_for_its_cache_is_not() -> None:
    facts = {"size_bytes": 100e6, "key_value_buffer_bytes": 188e6, "context_length": 4096}

    def context(tokens: int, rate: float | None) -> Context:
        names = ("prefill_tokens_per_second", "time_to_first_token_ms", "inter_token_latency_ms")
        others: dict[str, Any] = dict.fromkeys(names, of(1.0))
        return Context(prompt_tokens=tokens, decode_tokens_per_second=of(rate), **others)

    for rate, count in ((20.0, 0), (2.0, 1)):
        decode = judge.decode_share([context(128, 60.0), context(4056, rate)], facts)
        assert decode is not None
        assert len(refused(times(1.2), decode)) == count
    assert judge.decode_share([context(128, 60.0), context(4056, None)], facts) is None


def test_clients_that_fail_refuse() -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms"), of(None)
    )
    failed: dict[str, Any] = {"clients": 4, "requests": 16, "failures": 2, "failed_with": ["Connection error."]}
    level = Level(**failed, **nothing, output_tokens_per_second=None)
    assert judge.reasons(None, [level]) == ["2 of 16 requests of 4 clients failed: Connection error."]


def test_prompt_lengths_go_up_by_fours_to_the_limit() -> None:
    assert ladder(4096) == [128, 512, 2048, 4096 - NEW_TOKENS - 8]
    assert ladder(2048) == [128, 512, 2008]
    assert ladder(512) == [128, 472]
    assert ladder(128) == [88]
    assert ladder(40960)[-2:] == [32768, 40920] or ladder(40960)[-1] == 40920


def test_percentiles_of_a_single_value_are_that_value() -> None:
    assert stats.percentiles([7]) == Percentiles(p50=7, p90=7, p99=7)


@pytest.mark.parametrize("blocks", [3, 4, 6])
def test_the_noise_floor_covers_what_two_runs_differ_by(blocks: int) -> None:
    draw = random.Random(3)
    over = {1.0: 0, 2.0: 0}
    pairs = 2000
    for _ in range(pairs):
        runs = [[draw.gauss(100, 2) for _ in range(blocks)] for _ in range(2)]
        noise = max(stats.noise(run) or 0 for run in runs)
        means = [sum(run) / blocks for run in runs]
        for times_over in over:
            over[times_over] += abs(means[0] / means[1] - 1) > times_over * noise
    assert over[1.0] <= 0.02 * pairs
    assert over[2.0] <= 0.002 * pairs


def test_one_block_knows_no_noise() -> None:
    assert stats.noise([1.0]) is None
    assert stats.noise([1.0, None]) is None


def test_a_ratio_of_what_alternated_ignores_a_common_drift() -> None:
    drift = [1.0, 1.3, 0.8, 1.1]
    found, (low, high) = stats.ratio([90 * d for d in drift], [100 * d for d in drift])
    assert found == low == high == 0.9


def test_threads_that_a_package_does_not_name_are_those_of_its_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8 if logical else 6)
    assert conditions.threads({}) == 4
    assert conditions.threads({"intra_op_num_threads": 0}) == 6
    assert conditions.threads({"intra_op_num_threads": 3}) == 3

from __future__ import annotations

import copy
import random
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.bench import stats
from scripts.report import changes

TIMES = ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms")
RATES = ("tg128", "pp512", "peak_rss_bytes", "cpu_seconds_per_token")


def test_a_report_against_itself_has_no_changes() -> None:
    assert changes.compare(_report(), _report()) == []


@pytest.mark.parametrize("spread", [0.003, 0.01, 0.03, 0.08])
def test_two_runs_of_the_same_model_have_no_changes(spread: float) -> None:
    draw = random.Random(20)
    repeats = [changes.compare(_measured(draw, spread), _measured(draw, spread)) for _ in range(40)]
    assert repeats == [[]] * 40


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), spread=st.floats(0.001, 0.02), slower=st.floats(1.3, 3.0))
def test_a_slowed_model_is_a_regression(seed: int, spread: float, slower: float) -> None:
    draw = random.Random(seed)
    found = changes.compare(_measured(draw, spread), _measured(draw, spread, slower))
    assert {entry.metric for entry in found} >= {*TIMES, "tg128", "pp512"}
    assert {entry.kind for entry in found} == {"regression"}
    assert all(entry.noise >= changes.LEAST_NOISE for entry in found)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.0, 0.6), noise=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)))
def test_nothing_below_the_noise_of_either_is_told(share: float, noise: tuple[float, float]) -> None:
    before, after = _report(), _report()
    for report, measured, factor in ((before, noise[0], 1.0), (after, noise[1], 1 + share)):
        speed = report["models"][0]["precisions"][0]["performance"]
        speed["noise"] = {"tg128": measured}
        speed["tg128"] *= factor
    told = bool(changes.compare(before, after))
    assert not told or share > max(*noise, changes.LEAST_NOISE) - 1e-9
    assert told or share < 2.01 * max(*noise, changes.LEAST_NOISE)


@given(seed=st.integers(0, 2**32))
def test_what_got_worse_one_way_got_better_the_other(seed: int) -> None:
    draw = random.Random(seed)
    one, other = _measured(draw, 0.02), _measured(draw, 0.02, draw.uniform(0.3, 3))
    turned = {"regression": "improvement", "improvement": "regression", "change": "change"}
    there, back = changes.compare(one, other), changes.compare(other, one)
    assert sorted((e.metric, e.kind) for e in there) == sorted((e.metric, turned[e.kind]) for e in back)


@pytest.mark.parametrize(
    ("metric", "before", "after", "kind"),
    [
        ("kl", 0.10, 0.14, "regression"),
        ("kl", 0.10, 0.06, "improvement"),
        ("top1", 0.90, 0.80, "regression"),
        ("perplexity_ratio", 1.02, 1.30, "regression"),
    ],
)
def test_quality_beyond_its_interval_is_told(metric: str, before: float, after: float, kind: str) -> None:
    found = changes.compare(_quality(metric, before, 0.02), _quality(metric, after, 0.02))
    assert [(entry.metric, entry.before, entry.after, entry.kind) for entry in found] == [(metric, before, after, kind)]


def test_quality_within_its_interval_is_not_told() -> None:
    assert changes.compare(_quality("kl", 0.10, 0.06), _quality("kl", 0.12, 0.06)) == []


def test_quality_that_differs_by_rounding_is_not_told() -> None:
    assert changes.compare(_quality("kl", 2e-6, None), _quality("kl", 3e-6, None)) == []


def test_cases_lost_and_won_are_named() -> None:
    before, after = _report(), _report()
    cases = after["models"][0]["precisions"][0]["domain"]["cases"]
    cases[0]["passed"], cases[2]["passed"] = False, True
    lost, won = changes.compare(before, after)
    assert (lost.metric, lost.kind, lost.cases) == ("cases lost", "regression", ["a"])
    assert (won.metric, won.kind, won.cases) == ("cases won", "improvement", ["c"])


def test_cases_that_only_one_report_asked_say_nothing() -> None:
    before, after = _report(), _report()
    after["models"][0]["precisions"][0]["domain"]["cases"] = [{"id": "new", "passed": False}]
    assert changes.compare(before, after) == []


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [("passed", "warned", "regression"), ("refused", "passed", "improvement"), ("passed", "skipped", "change")],
)
def test_a_verdict_that_changes_is_told(before: str, after: str, kind: str) -> None:
    one, other = _report(), _report()
    one["models"][0]["precisions"][0]["verdict"] = before
    other["models"][0]["precisions"][0]["verdict"] = after
    [entry] = changes.compare(one, other)
    assert (entry.metric, entry.precision, entry.kind) == ("verdict", "int4", kind)


def test_regressions_come_first_and_nothing_left_to_recommend_is_one() -> None:
    before, after = _report(), _report()
    after["environment"]["tools"]["olive-ai"] = "0.14.0"
    after["models"][0]["precisions"][0]["size_bytes"] = 50_000_000
    after["models"][0]["recommended"] = None
    assert [(entry.metric, entry.kind) for entry in changes.compare(before, after)] == [
        ("recommended", "regression"),
        ("size_bytes", "improvement"),
        ("tool olive-ai", "change"),
    ]


def test_a_setting_that_changes_is_told_by_its_name() -> None:
    before, after = _report(), _report()
    after["models"][0]["settings"]["sampling"]["temperature"] = 0.7
    [entry] = changes.compare(before, after)
    assert (entry.metric, entry.before, entry.after) == ("setting sampling.temperature", 0.2, 0.7)


def test_timings_of_another_machine_or_of_other_threads_are_not_compared() -> None:
    before, slow = _report(), _measured(random.Random(1), 0.01, 5)
    elsewhere = copy.deepcopy(slow)
    elsewhere["environment"]["machine"] = {"processor": "another"}
    assert [entry.metric for entry in changes.compare(before, elsewhere)] == ["machine"]
    slow["models"][0]["precisions"][0]["performance"]["conditions"] = {"threads": 1}
    assert changes.compare(before, slow) == []


def test_a_model_or_a_precision_that_comes_or_goes_is_told() -> None:
    before, after = _report(), _report()
    after["models"][0]["precisions"][0]["precision"] = "int8"
    after["models"].append({**copy.deepcopy(after["models"][0]), "name": "other"})
    found = [(entry.model, entry.precision, entry.before, entry.after)
             for entry in changes.compare(before, after)]  # fmt: skip
    assert found == [("m", "int4", "there", None), ("m", "int8", None, "there"), ("other", None, None, "there")]


def test_a_measurement_that_is_gone_is_told_but_its_figures_are_not() -> None:
    after = _report()
    after["models"][0]["precisions"][0]["performance"] = None
    [entry] = changes.compare(_report(), after)
    assert (entry.metric, entry.after, entry.kind) == ("performance", "not measured", "change")


def test_bench_full_soak_and_edges_are_compared() -> None:
    before, after = _report(), _report()
    for report, times, verdict, outcome in ((before, 100, "passed", "passed"), (after, 200, "refused", "ingot")):
        row = report["models"][0]["precisions"][0]
        context = {"prompt_tokens": 512, "time_to_first_token_ms": {"p50": times}}
        noise = {"time_to_first_token_ms": 0.2}
        row["performance_full"] = {"verdict": "passed", "contexts": [context], "noise": noise}
        row["soak"] = {"verdict": verdict}
        row["edges"] = {"verdict": verdict, "cases": [{"id": "empty", "outcome": outcome}]}
    assert [(entry.metric, entry.noise, entry.kind) for entry in changes.compare(before, after)] == [
        ("soak verdict", None, "regression"),
        ("edges verdict", None, "regression"),
        ("edge case empty", None, "regression"),
        ("time_to_first_token_ms at 512 tokens", 0.4, "regression"),
    ]


def _report() -> dict[str, Any]:
    performance: dict[str, Any] = {name: {"p50": 100.0} for name in TIMES} | dict.fromkeys(RATES, 50.0)
    cases = [{"id": "a", "passed": True}, {"id": "b", "passed": True}, {"id": "c", "passed": False}]
    row = {
        "precision": "int4", "verdict": "passed", "size_bytes": 100_000_000, "quality": {"kl": 0.1, "top1": 0.9},
        "domain": {"cases": cases}, "performance": performance,
    }  # fmt: skip
    export = {"verdict": "passed", "size_bytes": 500_000_000, "quality": None, "domain": None}
    model = {"name": "m", "recommended": "int4", "export": export, "precisions": [row],
             "settings": {"sampling": {"temperature": 0.2}}}  # fmt: skip
    environment = {"tools": {"olive-ai": "0.13.0"}, "machine": {"processor": "one"}}
    return copy.deepcopy({"version": 1, "models": [model], "environment": environment})


def _measured(draw: random.Random, spread: float, slower: float = 1.0) -> dict[str, Any]:
    """A report of a run of four processes, with the noise floor that the run itself states.

    `spread` is the standard deviation between processes, as a share; `slower` divides the rates.
    """
    report = _report()
    performance = report["models"][0]["precisions"][0]["performance"]
    noise = {}
    for name in (*TIMES, *RATES):
        blocks = [100 * max(0.2, 1 + draw.gauss(0, spread)) for _ in range(4)]
        noise[name] = stats.noise(blocks)
        factor = slower if name in TIMES else 1 / slower if name in ("tg128", "pp512") else 1.0
        typical = statistics.fmean(blocks) * factor
        performance[name] = {"p50": typical} if name in TIMES else typical
    performance["noise"] = noise
    return report


def _quality(metric: str, value: float, reach: float | None) -> dict[str, Any]:
    report = _report()
    interval = None if reach is None else [value - reach / 2, value + reach / 2]
    report["models"][0]["precisions"][0]["quality"] = {metric: value, f"{metric}_interval": interval}
    return report

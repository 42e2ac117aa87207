"""A server that leaks is refused, one that does not passes, and what is no leak is not taken for one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.bench import soak
from scripts.common.errors import IngotError
from scripts.results.bench import Soak
from tests.served import onnx_folder, package

__all__ = ["onnx_folder", "package"]  # fixtures
STAND_IN = Path(__file__).with_name("stand_in.py")


def soaked(*how: object, requests: int = 120) -> Soak:
    return soak.soak(STAND_IN, requests, [sys.executable, str(STAND_IN), *map(str, how)])


def test_a_leaking_server_is_refused() -> None:
    result = soaked("--leak", 50_000)
    assert result.verdict == "refused"
    assert "grows by at least" in result.reasons[0]
    assert result.slope_interval
    low, high = result.slope_interval
    assert result.limit_bytes_per_request < low <= result.slope_bytes_per_request <= high
    assert 40_000 < result.slope_bytes_per_request < 60_000
    assert [row.request for row in result.rss] == list(range(1, 121))
    assert result.failures == 0


def test_a_steady_server_passes() -> None:
    result = soaked()
    assert (result.verdict, result.reasons) == ("passed", [])
    assert result.slope_interval and result.slope_bytes_per_request is not None
    low, high = result.slope_interval
    assert low <= 0 <= high or abs(result.slope_bytes_per_request) < 1000
    assert result.jumps == []


def test_one_jump_is_told_and_is_no_leak() -> None:
    result = soaked("--jump-at", 90)
    assert result.verdict == "warned"
    assert [jump.request for jump in result.jumps] == [90 - result.conditions["warm_up_requests"]]


def test_requests_that_fail_are_counted() -> None:
    result = soaked("--fail-every", 10)
    assert (result.verdict, result.failures) == ("refused", 16)
    assert result.failed_with == ["cannot be measured: no room"]


def test_a_server_that_ends_is_a_refusal_and_says_when() -> None:
    result = soaked("--die-at", 130)
    assert result.verdict == "refused"
    assert "ended with 7" in result.reasons[0]
    assert "130th" in result.reasons[0]
    assert result.requests == 89


def test_too_few_requests_show_no_trend() -> None:
    with pytest.raises(IngotError, match="at least 24"):
        soaked(requests=20)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), swing=st.floats(0, 1.5e6))
def test_memory_that_swings_is_no_leak_and_a_leak_that_swings_is_one(seed: int, swing: float) -> None:
    draw = random.Random(seed)
    level, sizes = 0.0, []
    for _ in range(300):
        level = 0.8 * level + draw.gauss(0, 0.6 * swing)  # neighbours are alike
        sizes.append(round(300e6 + level))
    assert soak.judge(soak.trend_of(sizes), [])[0] == "passed"
    leaking = [size + 50_000 * i for i, size in enumerate(sizes)]
    assert soak.judge(soak.trend_of(leaking), [])[0] == "refused"


def test_a_leak_in_large_steps_is_a_leak() -> None:
    sizes = [200_000_000 + 40_000_000 * (i // 40) for i in range(300)]
    assert soak.judge(soak.trend_of(sizes), [])[0] == "refused"


def test_a_package_is_soaked(package: Path, tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    command = [sys.executable, "-m", "scripts.bench", "soak", "--package", str(package), "--output", str(output)]
    # glibc gives each thread an arena of its own, which fill for as long as new threads come. In so few requests of so
    # small a model even what is below the runtime adapter's own threshold would look like a trend.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 18)}
    done = subprocess.run(
        [*command, "--requests", "36"], cwd=STAND_IN.parents[2], env=env, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["verdict"] in ("passed", "warned")
    assert (result["requests"], result["failures"]) == (36, 0)
    assert all(row["bytes"] > 30_000_000 for row in result["rss"])
    assert "soak: 60 of 72 requests" in done.stdout
    conditions = result["conditions"]
    assert conditions["environment"]["MALLOC_MMAP_THRESHOLD_"] == "262144"
    assert conditions["key_value_buffer_bytes"] > 0
    assert len(conditions["load_average_before"]) == 3
    assert 0 <= conditions["other_processes_cpu_percent"] <= 100

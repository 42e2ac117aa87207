"""Measuring a package: the figures are there, they hang together, and a package that breaks is named."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.bench.quick import MOST, floor, is_enough
from scripts.bench.stats import latencies, percentiles
from scripts.results.base import Percentiles
from tests.served import onnx_folder, package

__all__ = ["onnx_folder", "package"]  # fixtures


def quick(package: Path, output: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.bench", "quick", "--package", str(package), "--output", str(output)]
    root = Path(__file__).parents[2]
    # As the build starts it: a session of its own, a log, and a pipe that ends when the build does.
    log = output.with_suffix(".log")
    with log.open("w") as file:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=root,
            env=os.environ | env,
            start_new_session=True,
        )
        code = child.wait(timeout=300)
    assert child.stdin
    child.stdin.close()
    return subprocess.CompletedProcess(command, code, "", log.read_text())


def test_a_package_is_measured(package: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    # As a child of a build it has these; the process that it measures must not take them for its own.
    told = {"INGOT_PARENT": str(os.getpid()), "INGOT_PARENT_PIPE": "1", "INGOT_CHILD_LOCK": str(tmp_path / "lock")}
    done = quick(package, output, **told)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["verdict"] == "passed"
    for name in ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms"):
        assert 0 < result[name]["p50"] <= result[name]["p90"] <= result[name]["p99"]
    assert result["time_to_first_token_ms"]["p50"] < result["request_latency_ms"]["p50"]
    assert result["pp512"] > 0 < result["tg128"]
    assert 0 < result["load_seconds"] < 60
    assert 30_000_000 < result["steady_rss_bytes"] <= result["peak_rss_bytes"]
    assert result["cpu_seconds_per_token"] > 0 < result["cpu_percent"]
    assert result["bandwidth_share"] > 0 < result["read_bytes_per_second"]
    assert "of what memory allows" in done.stdout + output.with_suffix(".log").read_text()
    requests = result["samples"]["requests"]
    assert len(requests) >= 8
    assert len({request["prompt_tokens"] for request in requests}) >= 4
    conditions = result["conditions"]
    assert conditions["weights"] == "fp32"
    assert conditions["execution_provider"] == "CPUExecutionProvider"
    assert conditions["machine"]["ram_bytes"] > 0
    assert str(tmp_path) not in output.read_text()


def test_a_package_that_does_not_load_is_named(package: Path, tmp_path: Path) -> None:
    import shutil

    broken = shutil.copytree(package, tmp_path / "broken")
    (broken / "model.onnx.data").unlink()
    done = quick(broken, tmp_path / "bench.json")
    assert done.returncode == 1
    assert "cannot be measured" in done.stderr
    assert "Traceback" not in done.stderr


def blocks(rates: list[float]) -> list[dict[str, Any]]:
    request = {"at_ms": [10.0, 20.0], "done_ms": 21.0, "completion_tokens": 2, "prompt_tokens": 3}
    same = dict.fromkeys(("pp512", "peak_rss_bytes", "steady_rss_bytes", "cpu_seconds_per_token"), 5.0)
    return [{**same, "tg128": rate, "requests": [request]} for rate in rates]


@pytest.mark.parametrize(
    ("rates", "enough"),
    [([100, 100], False), ([100, 101, 99], True), ([100, 102, 98], False), ([100, 150, 50, 9], True)],
)
def test_processes_are_measured_until_the_noise_is_small_or_there_were_enough(rates: list[float], enough: bool) -> None:
    assert is_enough(blocks(rates)) is enough


@pytest.mark.parametrize("deviation", [0.005, 0.02, 0.035, 0.06])
def test_the_noise_of_a_run_that_may_end_early_holds(deviation: float) -> None:
    """Pairs of runs of the same thing differ by more than the larger of their noises in about 1 of 100 cases."""
    draw, beyond = random.Random(0), 0
    for _ in range(2000):
        runs = []
        for _ in range(2):
            rates = [draw.gauss(100, 100 * deviation) for _ in range(MOST)]
            count = next(n for n in range(1, MOST + 1) if is_enough(blocks(rates[:n])))
            runs.append((statistics.fmean(rates[:count]), floor(blocks(rates[:count]))["tg128"] or 0.0))
        (one, noise), (other, other_noise) = runs
        beyond += abs(one - other) / statistics.fmean((one, other)) > max(noise, other_noise)
    assert beyond <= 36  # three deviations more than 20 of 2,000


def test_percentiles_are_interpolated() -> None:
    assert percentiles([4, 1, 3, 2]) == Percentiles(p50=2.5, p90=3.7, p99=3.97)
    assert percentiles([7]) == Percentiles(p50=7, p90=7, p99=7)
    assert percentiles([]) == Percentiles(p50=None, p90=None, p99=None)


def test_inter_token_latency_is_of_a_request() -> None:
    request = {"at_ms": [10.0, 20.0, 30.0], "done_ms": 31.0, "completion_tokens": 5, "prompt_tokens": 3}
    silent = {"at_ms": [], "done_ms": 8.0, "completion_tokens": 1, "prompt_tokens": 3}
    found = latencies([request, silent])
    assert found["inter_token_latency_ms"].p50 == pytest.approx(5)
    assert found["time_to_first_token_ms"] == percentiles([10.0, 8.0])
    assert found["request_latency_ms"] == percentiles([31.0, 8.0])

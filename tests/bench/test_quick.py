"""Measuring a package: the figures are there, they hang together, and a package that breaks is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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

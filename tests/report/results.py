"""Results of a build, as the stages write them, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.report import collect
from scripts.results import base, measured

MODELS = [{"name": "triage", "precisions": ["int4", "int8", "fp16"]}]
TIMES = {"p50": 310.5, "p90": 402.0, "p99": 498.7}


def make_build(root: Path) -> Path:
    """int4 refused by its gate, int8 deployed and verified, fp16 broken after an older result."""
    model = root / "triage"
    onnx(model / "export", 1_000_000)
    write(model / "quality.json", quality(3e-7))
    write(model / "domain.json", domain(93.75))
    for name, size, compared in (
        ("int4", 180_000, quality(0.49, "refused", ["general: KL 0.49 nats is above the gate of 0.25"])),
        ("int8", 280_000, quality(0.004)),
        ("fp16", 500_000, quality(1e-5)),
    ):
        onnx(model / name / "onnx", size)
        write(model / name / "quality.json", compared)
        write(model / name / "domain.json", domain(90.0) | {"baseline": {"score": 93.75, "lost": ["t-1"], "won": []}})
        write(model / name / "bench.json", bench("8-bit in blocks of 32"))
    write(model / "recommend.json", {"recommended": "int8", "reasons": ["int8 passed every gate"], "precisions": {}})
    write(model / "int4" / "deploy.json", held_back("int4", "refused", "general: KL 0.49 nats is above …"))
    marker(model / "int4", "verify", "skipped", "deploy:triage-int4 was refused")
    deployed = {
        "verdict": "passed",
        "reasons": [],
        "id": "triage-int8-generic-cpu:1",
        "cache": "/c",
        "path": "/c/ingot/triage",
        "action": "deployed",
    }
    write(model / "int8" / "deploy.json", deployed)
    write(model / "int8" / "verify.json", {"verdict": "passed", "reasons": [], "id": deployed["id"]})
    marker(model / "fp16", "onnx", "failed", "disk full", "quantize:triage-fp16", "build/logs/quantize.log")
    marker(model / "fp16", "quality", "skipped", "quantize:triage-fp16 failed")
    return root


def collected(
    build: Path, models: Any = MODELS, environment: dict[str, Any] | None = None, options: Sequence[str] = ()
) -> dict[str, Any]:
    """The content of report.json, of a build that `doit` was called for with `options`."""
    found: dict[str, Any] = base.plain(collect.collect(build, models, environment, options))
    return found


def held_back(precision: str, verdict: str, reason: str) -> dict[str, Any]:
    return {"verdict": verdict, "reasons": [reason], "id": f"triage-{precision}-generic-cpu:1", "cache": "/c"}


def packaged(folder: Path, digest: str | None, *names: str) -> None:
    """Put a package beside results that name its digest, or `digest`."""
    write(folder / "package" / "manifest.json", {"files": {"model.onnx": {"size": 1, "blake3": "0"}}})
    write(folder / "package" / "provenance.json", {})
    for name in names:
        found = json_files.read(folder / f"{name}.json")
        write(folder / f"{name}.json", found | {"package": digest or measured.digest(folder / "package")})


def write(path: Path, value: Any) -> None:
    json_files.write(path, value)


def marker(folder: Path, output: str, verdict: str, reason: str, step: str = "", log: str | None = None) -> None:
    value = {"verdict": verdict, "reasons": [reason], "log": log, "step": step or f"{output}:x"}
    write(folder / ".ingot" / f"{output}.failed.json", value)


def onnx(folder: Path, size: int) -> None:
    folder.mkdir(parents=True)
    (folder / "model.onnx.data").write_bytes(bytes(size - 10))
    (folder / "tokenizer.json").write_bytes(bytes(10))
    write(folder / "manifest.json", {"files": {}})
    write(folder / "provenance.json", {})


def quality(kl: float, verdict: str = "passed", reasons: list[str] | None = None) -> dict[str, Any]:
    figures = {"kl": kl, "kl_p99": 5 * kl, "top1": 0.97, "perplexity": 20.2, "perplexity_ratio": 1.01}
    return {"verdict": verdict, "reasons": reasons or [], **figures, "texts": {}}


def domain(score: float) -> dict[str, Any]:
    case = {"id": "t-1", "text": "{}", "passed": True, "failures": []}
    return {"verdict": "passed", "reasons": [], "score": score, "cases": [case], "schema_valid": 100.0, "fields": {}}


def bench(weights: str) -> dict[str, Any]:
    times = ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms")
    rates = {"pp512": 180.4, "tg128": 61.23, "peak_rss_bytes": 430_000_000, "steady_rss_bytes": 410_000_000}
    conditions = {"weights": weights, "runtime": "Foundry Local runtime (SDK 2.2.1)", "threads": 2}
    return {"verdict": "passed", "reasons": [], **dict.fromkeys(times, TIMES), **rates, "conditions": conditions}


def make_full(root: Path) -> Path:
    """`make_build`, with all that is measured outside the default build for int4, and answers that differ."""
    model = make_build(root) / "triage"
    right, wrong = '{"category":"billing"}', '{"category":"defect"}'
    write(
        model / "domain.json", domain(66.67) | {"cases": [case("t-1", right), case("t-2", "x"), case("t-3", "", "no")]}
    )
    lost = [case("t-1", wrong, "field category: is 'defect', expected 'billing'"), case("t-2", "x")]
    for name, third, won in (("int4", case("t-3", "y"), ["t-3"]), ("int8", case("t-3", "", "no"), [])):
        baseline = {"score": 66.67, "lost": ["t-1"], "won": won}
        write(model / name / "domain.json", domain(33.33) | {"cases": [*lost, third], "baseline": baseline})
        samples = {"requests": [{"at_ms": [100.0 + 18.25 * i for i in range(12)], "done_ms": 320.0}]}
        write(
            model / name / "bench.json", bench("8-bit in blocks of 32") | {"samples": samples, "noise": {"tg128": 0.02}}
        )
    buckets = [{"from": 64 * i, "to": 64 * i + 64, "kl": 0.4 + 0.01 * i} for i in range(16)]
    text = {
        "kl": 0.49,
        "kl_interval": [0.45, 0.52],
        "top1": 0.97,
        "perplexity_ratio": 1.01,
        "positions": 1023,
        "kl_by_position": buckets,
    }
    judged = quality(0.49, "refused", ["general: KL 0.49 nats is above the gate of 0.25"])
    write(model / "int4" / "quality.json", judged | {"texts": {"general": text}, "kl_interval": [0.45, 0.52]})
    write(model / "int4" / "bench-full.json", full())
    rss = [{"request": 5 * i, "bytes": 600_000_000 + 700 * i * i} for i in range(60)]
    soak = {
        "requests": 300,
        "failures": 0,
        "rss": rss,
        "slope_bytes_per_request": 8260.5,
        "slope_interval": [-120.25, 16400.0],
        "limit_bytes_per_request": 4096.0,
        "seconds": 412.4,
        "conditions": {},
    }
    write(model / "int4" / "soak.json", {"verdict": "refused", "reasons": ["it grows"], **soak})
    edge = {
        "id": "empty",
        "what": "an empty message",
        "client": "http",
        "expected": "an error",
        "found": "HTTP 500",
        "outcome": "runtime",
        "serves_after": False,
    }
    cases = [edge, {**edge, "id": "space", "client": "session", "outcome": "passed", "serves_after": True}]
    write(
        model / "int4" / "edges.json",
        {
            "verdict": "warned",
            "reasons": ["the runtime failed"],
            "cases": cases,
            "markers": {"<|im_end|>": "stays text"},
            "runtime": "Foundry Local runtime (SDK 2.2.1)",
        },
    )
    return root


def full() -> dict[str, Any]:
    contexts = [
        {
            "prompt_tokens": tokens,
            "rss_bytes": 600_000_000 + tokens,
            "samples": {},
            "prefill_tokens_per_second": percentiles(210.4),
            "decode_tokens_per_second": percentiles(61.7 - tokens / 500),
            "time_to_first_token_ms": percentiles(4.7 * tokens),
            "inter_token_latency_ms": percentiles(16.32),
        }
        for tokens in (128, 512, 2048)
    ]
    clients = [
        {
            "clients": number,
            "requests": 12,
            "output_tokens_per_second": 60.25,
            "failures": 0,
            **{
                name: percentiles(300.0 * number)
                for name in ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms")
            },
        }
        for number in (1, 2, 4)
    ]
    peer = {
        "name": "llama.cpp",
        "version": "0.3.16",
        "file": "x.gguf",
        "quantisation": "Q4_1",
        "tg128": 66.25,
        "pp512": 190.0,
        "peak_rss_bytes": 330_000_000,
        "ratio": {"decode": 0.912, "prefill": 1.153, "rss": 1.9},
        "ratio_interval": {"decode": [0.88, 0.93], "prefill": [1.1, 1.2], "rss": [1.88, 1.92]},
    }
    growth = {"metric": "time_to_first_token_ms", "exponent": 1.084, "interval": [1.02, 1.13], "limit": 1.5}
    return {
        "verdict": "passed",
        "reasons": [],
        "contexts": contexts,
        "growth": growth,
        "concurrency": clients,
        "load_seconds": percentiles(0.859),
        "tg128": 60.5,
        "pp512": 205.0,
        "peak_rss_bytes": 700_000_000,
        "cpu_seconds_per_token": 0.04431,
        "noise": {"tg128": 0.031},
        "inter_token_latency_samples_ms": [16 + i % 7 for i in range(90)],
        "peer": peer,
        "conditions": {"threads": 2, "weights": "4-bit in blocks of 32"},
    }


def percentiles(value: float) -> dict[str, float]:
    return {"p50": round(value, 3), "p90": round(1.1 * value, 3), "p99": round(1.25 * value, 3)}


def case(name: str, text: str, failure: str | None = None) -> dict[str, Any]:
    return {"id": name, "text": text, "passed": failure is None, "failures": [failure] if failure else []}

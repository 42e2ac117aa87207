"""Results of a build, as the stages write them, for tests of what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.engine import files

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
    write(model / "int4" / "deploy.json", {"verdict": "refused", "reasons": ["general: KL 0.49 nats is above …"]})
    marker(model / "int4", "verify", "skipped", "deploy:triage-int4 was refused")
    deployed = {
        "verdict": "passed",
        "reasons": [],
        "id": "triage-int8-generic-cpu:1",
        "cache": "/c",
        "action": "deployed",
    }
    write(model / "int8" / "deploy.json", deployed)
    write(model / "int8" / "verify.json", {"verdict": "passed", "reasons": [], "id": deployed["id"]})
    marker(model / "fp16", "onnx", "failed", "disk full", "quantize:triage-fp16", "build/logs/quantize.log")
    marker(model / "fp16", "quality", "skipped", "quantize:triage-fp16 failed")
    return root


def write(path: Path, value: Any) -> None:
    files.write_json(path, value)


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

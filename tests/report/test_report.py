from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scripts.engine import files
from scripts.engine.errors import IngotError
from scripts.report import collect, render

PROJECT = Path(__file__).parents[2]
SCHEMA = files.read_json(PROJECT / "scripts" / "report" / "report.schema.json")
MODELS = [{"name": "triage", "precisions": ["int4", "int8", "fp16"]}]
TIMES = {"p50": 310.5, "p90": 402.0, "p99": 498.7}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """int4 refused by its gate, int8 deployed and verified, fp16 broken after an older result."""
    root = tmp_path / "a build"
    model = root / "triage"
    _onnx(model / "export", 1_000_000)
    _write(model / "quality.json", _quality(3e-7))
    _write(model / "domain.json", _domain(93.75))
    for name, size, quality in (
        ("int4", 180_000, _quality(0.49, "refused", ["general: KL 0.49 nats is above the gate of 0.25"])),
        ("int8", 280_000, _quality(0.004)),
        ("fp16", 500_000, _quality(1e-5)),
    ):
        _onnx(model / name / "onnx", size)
        _write(model / name / "quality.json", quality)
        _write(model / name / "domain.json", _domain(90.0) | {"baseline": {"score": 93.75, "lost": ["t-1"], "won": []}})
        _write(model / name / "bench.json", _bench("8-bit in blocks of 32"))
    _write(model / "recommend.json", {"recommended": "int8", "reasons": ["int8 passed every gate"], "precisions": {}})
    _write(model / "int4" / "deploy.json", {"verdict": "refused", "reasons": ["general: KL 0.49 nats is above …"]})
    _marker(model / "int4", "verify", "skipped", "deploy:triage-int4 was refused")
    deployed = {
        "verdict": "passed",
        "reasons": [],
        "id": "triage-int8-generic-cpu:1",
        "cache": "/c",
        "action": "deployed",
    }
    _write(model / "int8" / "deploy.json", deployed)
    _write(model / "int8" / "verify.json", {"verdict": "passed", "reasons": [], "id": deployed["id"]})
    _marker(model / "fp16", "onnx", "failed", "disk full", "quantize:triage-fp16", "build/logs/quantize.log")
    _marker(model / "fp16", "quality", "skipped", "quantize:triage-fp16 failed")
    return root


def test_the_report_keeps_its_published_format(build: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(collect.collect(build, MODELS), SCHEMA, cls=jsonschema.Draft202012Validator)


def test_each_precision_has_its_verdict_and_why(build: Path) -> None:
    (model,) = collect.collect(build, MODELS)["models"]
    assert model["recommended"] == "int8"
    assert model["export"]["verdict"] == "passed"
    int4, int8, fp16 = model["precisions"]
    assert (int4["verdict"], int4["reasons"]) == ("refused", ["general: KL 0.49 nats is above the gate of 0.25"])
    assert (int8["verdict"], int8["reasons"]) == ("passed", [])
    assert (fp16["verdict"], fp16["reasons"]) == ("failed", ["disk full"])


def test_a_failure_overrides_the_older_result_beside_it(build: Path) -> None:
    fp16 = collect.collect(build, MODELS)["models"][0]["precisions"][2]
    assert fp16["quality"] is None
    assert fp16["size_bytes"] is None
    assert fp16["domain"] is fp16["performance"] is None  # of an ONNX folder that was to be replaced


def test_deployed_is_what_was_deployed_and_verified(build: Path) -> None:
    int4, int8, fp16 = collect.collect(build, MODELS)["models"][0]["precisions"]
    assert int8["deployed"] == {"id": "triage-int8-generic-cpu:1", "cache": "/c", "verified": True}
    assert int4["deployed"] is None
    assert int4["deployment"]["verdict"] == "refused"
    assert fp16["deployed"] is None


def test_a_deployment_that_is_not_verified_says_so(build: Path) -> None:
    (build / "triage" / "int8" / "verify.json").unlink()
    report = collect.collect(build, MODELS)
    assert report["models"][0]["precisions"][1]["deployed"]["verified"] is False
    assert "not verified" in render.text(report)


def test_a_model_that_does_not_answer_as_expected_is_refused(build: Path) -> None:
    _write(build / "triage" / "int8" / "verify.json", {"verdict": "refused", "reasons": ["another answer"]})
    int8 = collect.collect(build, MODELS)["models"][0]["precisions"][1]
    assert (int8["verdict"], int8["reasons"]) == ("refused", ["another answer"])


def test_not_deploying_by_wish_is_no_verdict_on_the_precision(build: Path) -> None:
    _write(build / "triage" / "int8" / "deploy.json", {"verdict": "skipped", "reasons": ['deploy = "none"']})
    report = collect.collect(build, MODELS)
    assert report["models"][0]["precisions"][1]["verdict"] == "passed"
    assert 'int8: not deployed: deploy = "none"' in render.text(report)


def test_a_refused_export_refuses_every_precision(build: Path) -> None:
    _write(
        build / "triage" / "quality.json", _quality(0.4, "refused", ["general: KL 0.4 nats is above the gate of 0.001"])
    )
    model = collect.collect(build, MODELS)["models"][0]
    assert [row["verdict"] for row in model["precisions"]] == ["refused", "refused", "failed"]
    assert "export: general: KL 0.4 nats is above the gate of 0.001" in model["precisions"][1]["reasons"]


def test_the_size_is_that_of_the_model_without_notes_of_the_build(build: Path) -> None:
    int8 = collect.collect(build, MODELS)["models"][0]["precisions"][1]
    assert int8["size_bytes"] == 280_000
    assert int8["size_ratio"] == 0.28


def test_an_empty_build_is_all_not_measured(tmp_path: Path) -> None:
    report = collect.collect(tmp_path, MODELS)
    jsonschema.validate(report, SCHEMA)
    (model,) = report["models"]
    assert model["recommended"] is None
    for row in model["precisions"]:
        assert row["verdict"] == "skipped"
        assert row["quality"] is row["domain"] is row["performance"] is row["deployed"] is row["size_bytes"] is None
    assert "no precision can be recommended" in render.markdown(report)


def test_storage_that_is_not_what_is_computed_in_is_noted(build: Path) -> None:
    _write(build / "triage" / "int8" / "bench.json", _bench("stored as fp16, computes in fp32"))
    assert "int8: stored as fp16, computes in fp32" in render.text(collect.collect(build, MODELS))


def test_the_verdict_comes_first_and_what_failed_names_reason_and_log(build: Path) -> None:
    text = render.markdown(collect.collect(build, MODELS))
    lines = text.splitlines()
    assert lines[2] == ("**triage: int8 is recommended, deployed as triage-int8-generic-cpu:1, verified.**")
    assert "quantize:triage-fp16 failed: disk full (log: build/logs/quantize.log)" in text
    assert "quantize:triage-fp16 failed\n" not in text  # what was skipped because of it is not told again


def test_every_row_of_the_markdown_table_has_as_many_cells_as_its_head(build: Path) -> None:
    _write(build / "triage" / "int4" / "quality.json", _quality(0.5, "refused", ["a | b\nc"]))
    lines = [line for line in render.markdown(collect.collect(build, MODELS)).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4
    assert {line.count(" | ") for line in lines} == {len(render.HEAD) - 1}


def test_the_table_shows_the_figures(build: Path) -> None:
    row = render.rows(collect.collect(build, MODELS)["models"][0])[2]
    assert dict(zip(render.HEAD, row, strict=True)) == {
        "precision": "int8",
        "size": "280.0 kB",
        "of float": "0.28×",
        "decode": "61.2",
        "prefill": "180",
        "TTFT": "310 ms",
        "peak RSS": "430.0 MB",
        "KL": "0.004",
        "top-1": "97.0%",
        "ppl ratio": "1.010",
        "domain": "90.0%",
        "verdict": "passed",
        "deployed as": "triage-int8-generic-cpu:1",
    }


def test_a_result_that_is_no_json_is_named(build: Path) -> None:
    path = build / "triage" / "int8" / "bench.json"
    path.write_text('{"verdict": ', encoding="utf-8")
    with pytest.raises(IngotError, match=r"bench\.json.*not JSON"):
        collect.collect(build, MODELS)


@pytest.mark.parametrize("models", [{}, [{"name": "a"}], [{"name": "a", "precisions": "int4"}]])
def test_a_list_of_models_that_is_none_is_an_error(tmp_path: Path, models: Any) -> None:
    with pytest.raises(IngotError, match="--models"):
        collect.collect(tmp_path, models)


def test_the_command_writes_the_same_bytes_twice_and_prints_a_plain_table(build: Path, tmp_path: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        command = [
            sys.executable,
            "-m",
            "scripts.report",
            "render",
            "--build",
            str(build),
            "--models",
            json.dumps(MODELS),
        ]
        options = ["--environment", '{"threads": 2}', "--output", str(tmp_path / name)]
        done = subprocess.run([*command, *options], cwd=PROJECT, capture_output=True, text=True, check=True)
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert outputs[0] == outputs[1]
    assert set(outputs[0]) == {"report.json", "report.md", "table.txt"}
    assert done.stdout == outputs[0]["table.txt"].decode()
    assert "\x1b" not in done.stdout
    assert json.loads(outputs[0]["report.json"])["environment"]["threads"] == 2


def _write(path: Path, value: Any) -> None:
    files.write_json(path, value)


def _marker(folder: Path, output: str, verdict: str, reason: str, step: str = "", log: str | None = None) -> None:
    value = {"verdict": verdict, "reasons": [reason], "log": log, "step": step or f"{output}:x"}
    _write(folder / ".ingot" / f"{output}.failed.json", value)


def _onnx(folder: Path, size: int) -> None:
    folder.mkdir(parents=True)
    (folder / "model.onnx.data").write_bytes(bytes(size - 10))
    (folder / "tokenizer.json").write_bytes(bytes(10))
    _write(folder / "manifest.json", {"files": {}})
    _write(folder / "provenance.json", {})


def _quality(kl: float, verdict: str = "passed", reasons: list[str] | None = None) -> dict[str, Any]:
    figures = {"kl": kl, "kl_p99": 5 * kl, "top1": 0.97, "perplexity": 20.2, "perplexity_ratio": 1.01}
    return {"verdict": verdict, "reasons": reasons or [], **figures, "texts": {}}


def _domain(score: float) -> dict[str, Any]:
    case = {"id": "t-1", "text": "{}", "passed": True, "failures": []}
    return {"verdict": "passed", "reasons": [], "score": score, "cases": [case], "schema_valid": 100.0, "fields": {}}


def _bench(weights: str) -> dict[str, Any]:
    times = ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms")
    rates = {"pp512": 180.4, "tg128": 61.23, "peak_rss_bytes": 430_000_000, "steady_rss_bytes": 410_000_000}
    conditions = {"weights": weights, "runtime": "Foundry Local runtime (SDK 2.2.1)", "threads": 2}
    return {"verdict": "passed", "reasons": [], **dict.fromkeys(times, TIMES), **rates, "conditions": conditions}

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.report import apps, text, weighed
from tests.report import results
from tests.report.results import MODELS

PROJECT = Path(__file__).parents[2]
SCHEMA = json_files.read(PROJECT / "scripts" / "report" / "report.schema.json")


def test_the_report_keeps_its_published_format(build: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(_report(build), SCHEMA, cls=jsonschema.Draft202012Validator)


def test_each_precision_has_its_verdict_and_why(build: Path) -> None:
    (model,) = results.collected(build, MODELS)["models"]
    assert model["recommended"] == "int8"
    assert model["export"]["verdict"] == "passed"
    int4, int8, fp16 = model["precisions"]
    assert (int4["verdict"], int4["reasons"]) == ("refused", ["general: KL 0.49 nats is above the gate of 0.25"])
    assert (int8["verdict"], int8["reasons"]) == ("passed", [])
    assert (fp16["verdict"], fp16["reasons"]) == ("failed", ["disk full"])


def test_a_failure_overrides_the_older_result_beside_it(build: Path) -> None:
    fp16 = results.collected(build, MODELS)["models"][0]["precisions"][2]
    assert fp16["quality"] is None
    assert fp16["size_bytes"] is None
    assert fp16["domain"] is fp16["performance"] is None  # of an ONNX folder that was to be replaced


def test_deployed_is_what_was_deployed_and_verified(build: Path) -> None:
    int4, int8, fp16 = results.collected(build, MODELS)["models"][0]["precisions"]
    assert int8["deployed"] == {
        "id": "triage-int8-generic-cpu:1",
        "cache": "/c",
        "folder": "/c/ingot/triage",
        "verified": True,
    }
    assert int4["deployed"] is None
    assert int4["deployment"]["verdict"] == "refused"
    assert fp16["deployed"] is None


def test_what_apps_ask_for_is_told_once_for_all_precisions_that_are_alike() -> None:
    checks = [
        {"name": "supports_tool_calling", "verdict": "passed", "told": "f() was called"},
        {"name": "seed", "verdict": "passed", "told": "the same"},
        {"name": "structured output over HTTP", "verdict": "warned", "told": "it holds nothing"},
    ]
    held = {"cases": 9, "passed": 8, "passed_free": 7, "valid": 9, "valid_free": 8, "error": None}
    refused = {"constrained": {"cases": 9, "error": "no such keyword"}}
    rows = [{"precision": name, "apps": checks, "domain": {"constrained": held}} for name in ("int4", "int8")]
    assert apps.lines({"precisions": rows, "export": {"domain": refused}}) == [
        "int4, int8: tool calls: f() was called",
        "int4, int8: structured output over HTTP: it holds nothing",
        "answers held to the schema: int4 7 → 8 of 9 right, 8 → 9 valid; int8 7 → 8 of 9 right, 8 → 9 valid",
        "float: the runtime does not hold answers to the schema: no such keyword",
    ]


def test_a_deployment_that_is_not_verified_says_so(build: Path) -> None:
    (build / "triage" / "int8" / "verify.json").unlink()
    report = _report(build)
    assert report["models"][0]["precisions"][1]["deployed"]["verified"] is False
    assert "not verified" in text.text(report)


def test_a_model_that_does_not_answer_as_expected_is_refused(build: Path) -> None:
    results.write(
        build / "triage" / "int8" / "verify.json",
        {"verdict": "refused", "reasons": ["another answer"], "id": "triage-int8-generic-cpu:1"},
    )
    int8 = results.collected(build, MODELS)["models"][0]["precisions"][1]
    assert (int8["verdict"], int8["reasons"]) == ("refused", ["another answer"])


def test_not_deploying_as_configured_is_not_a_verdict_on_the_precision(build: Path) -> None:
    results.write(build / "triage" / "int8" / "deploy.json", results.held_back("int8", "skipped", 'deploy = "none"'))
    report = _report(build)
    assert report["models"][0]["precisions"][1]["verdict"] == "passed"
    assert 'int8: not deployed: deploy = "none"' in text.text(report)


@pytest.mark.parametrize("output", ["attested", "signature"])
def test_what_stopped_on_the_way_to_the_cache_tells_against_the_precision(build: Path, output: str) -> None:
    results.marker(build / "triage" / "int8", output, "failed", "no key")
    int8 = results.collected(build)["models"][0]["precisions"][1]
    assert (int8["verdict"], int8["reasons"]) == ("failed", ["no key"])


def test_a_refused_export_refuses_every_precision(build: Path) -> None:
    results.write(
        build / "triage" / "quality.json",
        results.quality(0.4, "refused", ["general: KL 0.4 nats is above the gate of 0.001"]),
    )
    model = results.collected(build, MODELS)["models"][0]
    assert [row["verdict"] for row in model["precisions"]] == ["refused", "refused", "failed"]
    assert "export: general: KL 0.4 nats is above the gate of 0.001" in model["precisions"][1]["reasons"]


def test_the_size_is_that_of_the_model_without_notes_of_the_build(build: Path) -> None:
    int8 = results.collected(build, MODELS)["models"][0]["precisions"][1]
    assert int8["size_bytes"] == 280_000
    assert int8["size_ratio"] == 0.28


def test_an_empty_build_is_all_not_measured(tmp_path: Path) -> None:
    report = _report(tmp_path)
    jsonschema.validate(report, SCHEMA)
    (model,) = report["models"]
    assert model["recommended"] is None
    for row in model["precisions"]:
        assert row["verdict"] == "skipped"
        assert row["quality"] is row["domain"] is row["performance"] is row["deployed"] is row["size_bytes"] is None
    assert "no precision can be recommended" in text.markdown(report)


def test_storage_that_is_not_what_is_computed_in_is_noted(build: Path) -> None:
    results.write(build / "triage" / "int8" / "bench.json", results.bench("stored as fp16, computes in fp32"))
    assert "int8: stored as fp16, computes in fp32" in text.text(_report(build))


def test_the_verdict_comes_first_and_what_failed_names_reason_and_log(build: Path) -> None:
    written = text.markdown(_report(build))
    lines = written.splitlines()
    assert lines[2] == ("**triage: int8 is recommended, deployed as triage-int8-generic-cpu:1, verified.**")
    assert "quantize:triage-fp16 failed: disk full (log: build/logs/quantize.log)" in written
    assert "quantize:triage-fp16 failed\n" not in written  # what was skipped because of it is not told again


def test_every_row_of_the_markdown_table_has_as_many_cells_as_its_head(build: Path) -> None:
    results.write(build / "triage" / "int4" / "quality.json", results.quality(0.5, "refused", ["a | b\nc"]))
    lines = [line for line in text.markdown(_report(build)).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4
    assert {line.count(" | ") for line in lines} == {len(text.head()) - 1}


def test_the_table_shows_the_figures(build: Path) -> None:
    row = text.rows(results.collected(build, MODELS)["models"][0])[2]
    assert dict(zip(text.head(), row, strict=True)) == {
        "precision": "int8",
        "size": "0.3 MB",
        "of float": "0.28×",
        "bits/weight": "-",
        "decode": "61.2",
        "prefill": "180",
        "TTFT": "310 ms",
        "roofline": "-",
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
        results.collected(build, MODELS)


@pytest.mark.parametrize("models", [{}, [{"name": "a"}], [{"name": "a", "precisions": "int4"}]])
def test_a_list_of_models_that_is_none_is_an_error(tmp_path: Path, models: Any) -> None:
    with pytest.raises(IngotError, match="--models"):
        results.collected(tmp_path, models)


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
    assert set(outputs[0]) == {
        "report.json",
        "report.md",
        "index.html",
        "junit.xml",
        "table.txt",
        *(f"table.{width}.txt" for width in text.WIDTHS),
    }
    assert done.stdout == outputs[0]["table.txt"].decode()
    assert "\x1b" not in done.stdout
    assert json.loads(outputs[0]["report.json"])["environment"]["threads"] == 2


def _report(build: Path) -> dict[str, Any]:
    return results.collected(build, MODELS) | {"changes": None}


def test_bits_per_weight_are_those_of_graph_and_data_over_the_checkpoints_parameters(
    build: Path, tiny_llama: Path
) -> None:
    shutil.copytree(tiny_llama, build / "triage" / "checkpoint")
    (model,) = results.collected(build)["models"]
    weights = weighed.parameters(tiny_llama)
    assert weights
    data = 280_000 - 10  # the tokenizer beside it weighs too, and is no weight
    assert model["precisions"][1]["bits_per_weight"] == pytest.approx(8 * data / weights, abs=1e-4)
    assert model["precisions"][2]["bits_per_weight"] is None

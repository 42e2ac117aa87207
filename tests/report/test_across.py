"""Several models, and several versions of one: which is for which job, and what changed from one to the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.common import json_files
from scripts.report import page, text
from tests.report import results

CACHE = "/c"


@pytest.fixture
def two(build: Path) -> dict[str, Any]:
    """The report of two models, the second without anything but its name."""
    models = [
        {**results.MODELS[0], "settings": {"description": "Sorts tickets"}},
        {"name": "spell", "precisions": ["int4"], "settings": {"description": "Mends | spelling"}},
    ]
    return results.collected(build, models)


def test_a_table_says_which_model_is_for_which_job_before_all_else(two: dict[str, Any]) -> None:
    for told in (text.text(two), text.markdown(two)):
        assert told.index("Sorts tickets") < told.index("int8 is recommended") or told.startswith("# Report")
        assert "scores" not in told.splitlines()[0]
    lines = text.text(two).splitlines()
    assert lines[0].split()[:5] == ["model", "use", "verdict", "base", "float"]
    assert lines[2].split()[:3] == ["triage", "int8", "passed"] and lines[2].endswith("Sorts tickets")
    assert lines[3].split()[:3] == ["spell", "-", "-"]
    assert "Mends \\| spelling" in text.markdown(two)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_fits_the_terminal(two: dict[str, Any], width: int) -> None:
    two["called"]["build"] = "build"
    lines = text.text(two, width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert {"model", "use", "cases"} <= set(lines[0].split())


def test_the_page_leads_with_all_models_and_how_to_use_them(two: dict[str, Any]) -> None:
    html = page.page(two)
    assert html.index("Which model for which job") < html.index('href="#m1"', html.index("<main>"))
    assert "<code data-command>doit chat triage</code>" in html and "doit serve triage" in html
    assert "doit chat spell" not in html


def test_one_model_needs_no_such_table(build: Path) -> None:
    report = results.collected(build)
    assert "Which model for which job" not in page.page(report)
    assert text.text(report).startswith("triage: int8 is recommended")


def version(number: int, kl: float, right: list[str], rate: float, *, listed: bool = True) -> dict[str, Any]:
    domain = results.domain(50.0) | {
        "score": 50.0 * len(right), "cases": [
            {"id": name, "text": "", "passed": name in right, "failures": []} for name in ("t-1", "t-2")],
    }  # fmt: skip
    bench = results.bench("8-bit") | {"tg128": rate, "noise": {"tg128": 0.02}}
    figures = {"verdict": "passed", "size_bytes": 1000, "quality": results.quality(kl), "domain": domain,
               "performance": bench}  # fmt: skip
    return {
        "id": f"triage-int8-generic-cpu:{number}", "folder": f"{CACHE}/{number}", "model": "triage",
        "precision": "int8", "standing": "version", "listed": listed, "verified_at": "2026-01-02T03:04:05+00:00",
        "figures": figures,
    }  # fmt: skip


def standing(build: Path, *stands: dict[str, Any]) -> dict[str, Any]:
    found = {"verdict": "passed", "reasons": [], "cache": CACHE, "config": "c", "stands": [*stands]}
    json_files.write(build / "foundry" / "reconcile.json", found)
    return results.collected(build)


def test_versions_are_told_from_each_other_by_the_rules_of_the_accepted_report(build: Path) -> None:
    unmeasured = version(3, 0.1, [], 1.0) | {"figures": None}
    report = standing(build, version(2, 0.002, ["t-2"], 61.0), version(1, 0.004, ["t-1"], 60.0), unmeasured)
    third, second, first = report["models"][0]["precisions"][1]["versions"]
    assert [one["id"][-1] for one in (third, second, first)] == ["3", "2", "1"]
    assert first["changes"] is third["changes"] is None
    told = {(entry["metric"], entry["kind"]) for entry in second["changes"]}
    # The rate moved within its noise, and is not told.
    assert told == {("kl", "improvement"), ("cases lost", "regression"), ("cases won", "improvement")}
    html = page.page(report)
    assert "From version to version" in html and "one of them was not measured" in html
    assert "doit rollback triage-int8" in html


def test_the_table_says_which_version_is_served_and_how_to_go_back(build: Path) -> None:
    report = standing(build, version(2, 0.002, ["t-1"], 30.0, listed=False), version(1, 0.004, ["t-1"], 60.0))
    told = text.text(report)
    assert "triage-int8-generic-cpu:2 (taken back, verified 2026-01-02)" in told
    assert "triage-int8-generic-cpu:1 (served, verified 2026-01-02)" in told
    assert "doit rollback triage-int8 goes one back" in told
    assert "regression: decode rate 60.0 → 30.0" in told
    assert "From version" not in page.page(standing(build, version(1, 0.004, ["t-1"], 60.0)))
    assert json.dumps(report)  # all of it is plain data

"""`doit accept`, as users type it."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common import json_files
from scripts.report import render
from tests.report.results import MODELS

PROJECT = Path(__file__).parents[2]


def doit(*words: str, build: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "doit", *words, f"build={build}"], cwd=PROJECT, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    return done.returncode, said


@pytest.fixture
def reported(build: Path, tmp_path: Path) -> Path:
    """A build folder with nothing but a report."""
    render.render(build, MODELS, None, None, tmp_path / "built" / "report")
    return tmp_path / "built"


def test_the_report_is_kept_with_its_time_and_note(reported: Path) -> None:
    code, said = doit("accept", "--note", "good enough", build=reported)
    assert code == 0
    kept = json_files.read(reported / "accepted.json")
    assert kept["report"] == json_files.read(reported / "report" / "report.json")
    assert kept["note"] == "good enough"
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(kept["accepted_at"])
    assert 0 <= age.total_seconds() + 1 < 300
    assert "accepted.json" in said
    assert "not up to date" in said  # nothing else of that build is there


def test_the_next_report_is_compared_with_it(build: Path, reported: Path, tmp_path: Path) -> None:
    doit("accept", build=reported)
    bench = build / "triage" / "int8" / "bench.json"
    slow = json_files.read(bench)
    slow["tg128"] /= 2
    json_files.write(bench, slow)
    report = render.render(build, MODELS, reported / "accepted.json", None, tmp_path / "next")
    assert report.changes
    [entry] = report.changes.entries
    assert (entry.precision, entry.metric, entry.kind) == ("int8", "tg128", "regression")


def test_a_later_one_takes_its_place(reported: Path) -> None:
    doit("accept", "--note", "first", build=reported)
    doit("accept", build=reported)
    assert json_files.read(reported / "accepted.json")["note"] is None


def test_cleaning_leaves_it(reported: Path) -> None:
    doit("accept", build=reported)
    before = (reported / "accepted.json").read_bytes()
    code, _ = doit("clean", build=reported)
    assert code == 0
    assert not (reported / "report").exists()
    assert (reported / "accepted.json").read_bytes() == before


def test_without_a_report_it_says_what_to_do(tmp_path: Path) -> None:
    code, said = doit("accept", build=tmp_path)
    assert code == 1
    assert "report.json: is not there. Make the report first: doit" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"version": 1})])
def test_what_is_no_report_is_not_accepted(reported: Path, text: str) -> None:
    (reported / "report" / "report.json").write_text(text, encoding="utf-8")
    code, said = doit("accept", build=reported)
    assert code == 1
    assert "report.json" in said
    assert "Make the report again: doit" in said
    assert not (reported / "accepted.json").exists()


def test_help_is_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doit", "accept", "--help"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "--note" in done.stdout

"""A metric is one entry: added to a copy of the project, it is in table, page, report.md, changes and schema."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.common import json_files
from tests.report import results

PROJECT = Path(__file__).parents[2]
ENTRY = """    kettles: Annotated[Positive | None, metric(
        "kettles boiled", "{:.1f} kt", unit="kettles", better=-1, timed=True, column=Column("kettles", 7, "Memory"),
    )] = None  # fmt: skip
"""


def test_a_new_metric_is_one_entry_in_the_registry(build: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "scripts", project / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    file = project / "scripts" / "results" / "bench.py"
    place = "    noise: Noise | None = None\n"
    text = file.read_text(encoding="utf-8")
    assert text.count(place) == 1
    file.write_text(text.replace(place, ENTRY + place), encoding="utf-8")
    bench = build / "triage" / "int8" / "bench.json"
    measured = json_files.read(bench)

    json_files.write(bench, measured | {"kettles": 2.5})
    first = _render(project, build, tmp_path / "first")
    kept = {"accepted_at": None, "note": None, "report": json.loads(first["report.json"])}
    json_files.write(tmp_path / "accepted.json", kept)
    json_files.write(bench, measured | {"kettles": 7.5})
    second = _render(project, build, tmp_path / "second", "--accepted", str(tmp_path / "accepted.json"))

    lines = second["table.txt"].splitlines()
    head, int8 = (next(line for line in lines if word in line) for word in ("kettles", "7.5 kt"))
    assert head.split().count("kettles") == 1
    assert int8.split()[0] == "int8"
    assert "| kettles |" in second["report.md"]
    assert ">Kettles</th>" in second["index.html"]
    assert 'data-path="models.0.precisions.1.performance.kettles">7.5' in second["index.html"]
    assert "regression: triage int8: kettles boiled: 2.5 kt → 7.5 kt" in second["report.md"]
    told = subprocess.run([sys.executable, "-m", "scripts.results"], cwd=project, check=True, capture_output=True)
    schema = json_files.read(Path(told.stdout.decode().strip()))
    assert schema["$defs"]["Bench"]["properties"]["kettles"]["description"] == "Kettles boiled, kettles"


def _render(project: Path, build: Path, output: Path, *more: str) -> dict[str, str]:
    words = ["render", "--build", str(build), "--models", json.dumps(results.MODELS), "--output", str(output), *more]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.report", *words], cwd=project, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(project)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text(encoding="utf-8") for path in output.iterdir()}

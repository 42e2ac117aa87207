"""Real small models, measured over and over: the same one never differs from itself, a slower one does."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.report import changes
from tests import tiny
from tests.served import write_package

REPEATS = 20
ROOT = Path(__file__).parents[2]


def packaged(folder: Path, layers: int) -> Path:
    from onnxruntime_genai.models import builder

    checkpoint, onnx = str(tiny.make_checkpoint(folder / "checkpoint", layers=layers)), str(folder / "onnx")
    options = builder.parse_extra_options(None, checkpoint, onnx, "fp32", "cpu", str(folder), [])
    builder.create_model(None, checkpoint, onnx, "fp32", "cpu", str(folder), **options)
    return write_package(folder / "onnx", folder / "package")


def measured(package: Path, output: Path) -> dict[str, Any]:
    """What a report says of a run of the quick profile."""
    command = [sys.executable, "-m", "scripts.bench", "quick", "--package", str(package), "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    row = {"precision": "int4", "verdict": "passed", "size_bytes": 1, "quality": None, "domain": None}
    model = {
        "name": "m",
        "recommended": "int4",
        "export": {**row, "precision": None},
        "precisions": [{**row, "performance": json.loads(output.read_text())}],
    }
    return {"models": [model], "environment": {"machine": {}, "tools": {}}}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_model_never_differs_from_itself_and_a_slower_one_does(tmp_path: Path) -> None:
    package = packaged(tmp_path / "fast", layers=2)
    runs = [measured(package, tmp_path / f"{number}.json") for number in range(REPEATS + 1)]
    told = [entry for one, other in itertools.pairwise(runs) for entry in changes.compare(one, other)]
    assert told == []
    slow = measured(packaged(tmp_path / "slow", layers=16), tmp_path / "slow.json")
    found = {entry.metric: entry.kind for entry in changes.compare(runs[-1], slow)}
    assert found["tg128"] == found["inter_token_latency_ms"] == "regression"

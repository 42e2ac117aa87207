"""A deployment ended between any two of its steps: nothing half is listed, and the next one finishes the job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("how", "verb", "start"),
    [
        ("kill", "deploy", "empty"),
        ("kill", "deploy", "old"),
        ("kill", "undeploy", "old"),
        ("fail", "deploy", "empty"),
        ("fail", "deploy", "old"),
        ("fail", "undeploy", "old"),
        ("moved", "deploy", "old"),
    ],
)
def test_whatever_ends_it_the_next_one_finishes(
    how: str, verb: str, start: str, package: Path, newer: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.foundry.killer", how, verb, tmp_path / "models", package, newer, start]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=500, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    assert result["attempts"] >= (8 if verb == "undeploy" else 20)

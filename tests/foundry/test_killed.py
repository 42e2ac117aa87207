"""Deploying, rolling back and undeploying, ended between any two of their steps: nothing half is listed, what was whole
and not meant stays listed, and the next one finishes the job.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: How it is ended, what, starting from where, and how many steps there are at least: 190 kills in all.
STORMS = [
    ("kill", "deploy", "empty", 30),
    ("kill", "deploy", "old", 30),
    ("kill", "deploy", "torn", 40),
    ("kill", "undeploy", "old", 15),
    ("kill", "undeploy", "two", 15),
    ("kill", "rollback", "two", 10),
    ("kill", "rollback", "back", 10),
    ("fail", "deploy", "empty", 15),
    ("fail", "deploy", "old", 15),
    ("fail", "undeploy", "two", 8),
    ("fail", "rollback", "two", 8),
    ("moved", "deploy", "torn", 40),
]

#: Where the next one, which would finish the job, is killed at each of its steps as well: 100 kills of each at least.
TWICE = [("deploy", "old", 12), ("undeploy", "two", 2), ("rollback", "two", 2)]


def storm(how: str, verb: str, start: str, stride: int, package: Path, newer: Path, folder: Path) -> int:
    """How many times it was ended."""
    command = [sys.executable, "-m", "tests.foundry.killer", how, verb, folder / "models", package, newer, start]
    done = subprocess.run(
        list(map(str, [*command, stride])), capture_output=True, text=True, timeout=500, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    return int(result["attempts"])


@pytest.mark.parametrize(("how", "verb", "start", "least"), STORMS)
def test_ended_at_some_of_its_steps_the_next_one_finishes(
    how: str, verb: str, start: str, least: int, package: Path, newer: Path, tmp_path: Path
) -> None:
    assert storm(how, verb, start, 5, package, newer, tmp_path) >= least // 5


@pytest.mark.long
@pytest.mark.parametrize(("how", "verb", "start", "least"), STORMS)
def test_ended_at_any_of_its_steps_the_next_one_finishes(
    how: str, verb: str, start: str, least: int, package: Path, newer: Path, tmp_path: Path
) -> None:
    assert storm(how, verb, start, 1, package, newer, tmp_path) >= least


@pytest.mark.long
@pytest.mark.parametrize(("verb", "start", "stride"), TWICE)
def test_killed_and_killed_again_the_one_after_that_finishes(
    verb: str, start: str, stride: int, package: Path, newer: Path, tmp_path: Path
) -> None:
    assert storm("twice", verb, start, stride, package, newer, tmp_path) >= 100

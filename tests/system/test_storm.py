"""Real builds killed at random moments: no orphan survives, nothing half done stands, what was finished stays."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.system.conftest import settings
from tests.system.project import ROOT, Project, Ran

PACKAGES = ("facts/package", "facts/int4/package", "facts/int8/package")


def kill(project: Project, how: signal.Signals, after: float) -> None:
    """Start a build and end it `after` seconds later."""
    doit = subprocess.Popen(
        project.command("package"), cwd=ROOT, env=project.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        doit.wait(after)
    except subprocess.TimeoutExpired:
        doit.send_signal(how)
    doit.wait(30)


def orphans(build: Path) -> list[str]:
    """Command lines of processes that still work on this build."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(build) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_a_storm_of_kills_changes_nothing(
    first: tuple[Project, Ran], project: Project, weights: Path, kills: int
) -> None:
    undisturbed = first[0]
    settings(undisturbed, weights)
    assert undisturbed.doit("package").code == 0
    settings(project, weights)
    chance = random.Random(20261122)
    for _ in range(kills):
        how = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        kill(project, how, chance.uniform(0.3, 12.0))
        until = time.monotonic() + 5
        while (left := orphans(project.build)) and time.monotonic() < until:
            time.sleep(0.1)
        assert not left, f"after {how.name}"
    before = {
        path: path.stat().st_mtime_ns for path in project.build.rglob("provenance.json") if ".work" not in path.parts
    }
    ran = project.doit("package")
    assert ran.code == 0, ran.out
    kept = {path for path, when in before.items() if path.exists() and path.stat().st_mtime_ns == when}
    assert kept == set(before), "finished work was done again"
    for name in PACKAGES:
        assert project.json(f"{name}/manifest.json") == undisturbed.json(f"{name}/manifest.json")
    assert not [path for path in (project.build / ".work").glob("*") if path.is_dir()]
    assert project.doit("check", "--deep", "package").code == 0

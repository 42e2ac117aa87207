"""doit and the signals that whoever starts it has set to be ignored, as nohup and a shell's `&` in a script do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.engine.projects import Project
from tests.faults import forked


def start(project: Project, *ignored: str) -> subprocess.Popen[str]:
    """A doit that waits a while in its one step, started by a shell that ignores these signals."""
    project.declare([{"name": "one", "verb": "copy", "inputs": ["src/a"], "parameters": {"delay": 4}}])
    words = ["sh", "-c", f"trap '' {' '.join(ignored)}; exec \"$@\"" if ignored else 'exec "$@"', "sh"]
    doit = subprocess.Popen(
        [*words, *project.command()], cwd=project.folder, env=project.environment(), text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    forked.wait_for(lambda: list(project.build.glob(".work/one.*/one/*")))
    return doit


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_when_doit_started_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    doit = start(project := Project(tmp_path / "project"), "INT", "HUP")
    doit.send_signal(number)
    said = doit.communicate(timeout=60)[0]
    assert doit.returncode == 0 and "✓ one" in said, said
    assert (project.build / "one/0-x.txt").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_was_not_ignored_stops_the_build(tmp_path: Path, number: signal.Signals) -> None:
    doit = start(Project(tmp_path / "project"))
    doit.send_signal(number)
    said = doit.communicate(timeout=60)[0]
    assert doit.returncode == 130 and "stopped; what was finished is kept" in said, said


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.5])
def test_ctrl_c_twice_ends_as_once(tmp_path: Path, pause: float) -> None:
    doit = start(project := Project(tmp_path / "project"))
    os.killpg(doit.pid, signal.SIGINT)
    time.sleep(pause)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(doit.pid, signal.SIGINT)
    said = doit.communicate(timeout=60)[0]
    assert doit.returncode == 130 and "Traceback" not in said and "stopped" in said, said
    assert not [*project.build.glob(".work/one.*/one")] and forked.run(project)


def test_a_build_that_ignores_ctrl_c_can_still_be_terminated(tmp_path: Path) -> None:
    doit = start(Project(tmp_path / "project"), "INT", "HUP")
    doit.terminate()
    said = doit.communicate(timeout=60)[0]
    assert doit.returncode == 130 and "stopped" in said, said

"""`make test` on any machine: without a browser, in a continuous integration, with signals ignored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDS_A_BROWSER = "tests/report/test_browser.py::test_every_chart_has_a_name_for_those_who_do_not_see_it"


def started(*words: str, before: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Another pytest, started by a shell after the commands `before`."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(
        ["/bin/sh", "-c", f'{before}\nexec "$@"', "sh", *command], cwd=ROOT, env={**os.environ, **env},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_without_a_browser_what_needs_one_is_skipped_with_a_line_that_says_what_to_install(tmp_path: Path) -> None:
    done = started(NEEDS_A_BROWSER, PATH=f"{tmp_path}", CI="")
    assert done.returncode == 0, done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("SKIPPED"))
    assert "apt-get install chromium" in line


def test_a_browser_that_does_not_start_counts_as_none(tmp_path: Path) -> None:
    stub = tmp_path / "chromium"
    stub.write_text("#!/bin/sh\necho 'install me by another package manager' >&2; exit 1\n")
    stub.chmod(0o755)
    done = started(NEEDS_A_BROWSER, PATH=f"{tmp_path}:/bin:/usr/bin", CI="")
    assert done.returncode == 0, done.stdout
    assert "install me by another package manager" in done.stdout


def test_in_a_continuous_integration_the_lack_of_a_browser_is_a_failure(tmp_path: Path) -> None:
    done = started(NEEDS_A_BROWSER, PATH=f"{tmp_path}", CI="true")
    assert done.returncode == 1, done.stdout
    assert "apt-get install chromium" in done.stdout and "may not be skipped" in done.stdout


@pytest.mark.long
def test_tests_that_send_signals_pass_where_signals_are_ignored() -> None:
    done = started("tests/faults/test_kills.py", "-k", "test_a_storm_of_signals", "-m", "not long",
                  before="trap '' INT QUIT HUP")  # fmt: skip
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout

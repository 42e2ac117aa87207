"""`doit watch`: what settles is built, the reports are kept, Ctrl-C ends it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.projects import Project
from tests.faults import forked


@contextmanager
def watching(project: Project, *words: str) -> Iterator[Path]:
    """A `doit watch` at work, and the file that it prints to; stopped at the end."""
    pytest.importorskip("watchfiles", reason="watchfiles is not installed: pip install -e '.[team]'")
    said = project.folder / "watched.txt"
    with said.open("w") as out:
        doit = subprocess.Popen(
            project.command("watch", "--settle=0.5", *words), cwd=project.folder, env=project.environment(), stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            forked.wait_for(lambda: "watching" in said.read_text(), 60)
            yield said
            doit.send_signal(signal.SIGINT)
            assert doit.wait(60) == 0, said.read_text()
            assert "Traceback" not in said.read_text()
        finally:
            doit.kill()
            doit.wait()


def test_a_change_is_built_once_it_has_settled(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    with watching(project, "copy:a") as said:
        assert (project.build / "copy/a/0-x.txt").read_text() == "alpha and omega"
        for number in range(5):
            project.write("src/a/x.txt", f"text {number}")
        forked.wait_for(lambda: said.read_text().count("watching") == 2, 60)
        assert (project.build / "copy/a/0-x.txt").read_text() == "text 4"
    assert said.read_text().count("changed: ") == 1


def test_a_build_that_fails_ends_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", [{"name": "bad", "verb": "fail", "inputs": ["src/a"]}])
    with watching(project) as said:
        project.declare([{"name": "good", "verb": "copy", "inputs": ["src/a"]}])
        project.write("src/a/x.txt", "again")
        forked.wait_for(lambda: "✓ good" in said.read_text(), 60)
        forked.wait_for(lambda: said.read_text().count("watching") == 2, 60)


def test_each_report_is_kept(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.write("build/report/report.json", json.dumps({"of": 1}))
    with watching(project, "copy:a") as said:
        project.write("build/report/report.json", json.dumps({"of": 2}))
        project.write("src/a/x.txt", "again")
        forked.wait_for(lambda: said.read_text().count("watching") == 2, 60)
        project.write("src/a/x.txt", "and again")
        forked.wait_for(lambda: said.read_text().count("watching") == 3, 60)
    kept = [json.loads(path.read_text()) for path in sorted((project.build / "history").glob("*/report.json"))]
    assert kept == [{"of": 1}, {"of": 2}]

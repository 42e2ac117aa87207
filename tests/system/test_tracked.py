"""`doit mlflow`: what reaches MLflow is tested where it is read back; here, that nobody sees the address's password."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from scripts.common import json_files
from tests.faults import forked
from tests.report import results
from tests.system.project import ROOT, Project

ADDRESS = "http://somebody:hunter22@127.0.0.1"


@pytest.fixture
def reported(project: Project, tmp_path: Path) -> Project:
    project.model(name="triage", source={"path": tmp_path}, precisions=["int8"])
    json_files.write(project.build / "report" / "report.json", results.collected(results.make_build(project.build)))
    return project


@pytest.mark.needs("mlflow")
def test_a_password_is_neither_on_a_command_line_nor_printed(reported: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing: MLflow waits for it
        uri = f"{ADDRESS}:{server.getsockname()[1]}"
        doit = subprocess.Popen(
            reported.command("mlflow"), cwd=ROOT, env={**reported.environment(), "MLFLOW_TRACKING_URI": uri},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        server.settimeout(120)
        connection, _ = server.accept()
        lines = [Path(f"/proc/{one}/cmdline").read_text() for one in forked.children_of(reported.build)]
        connection.close()
    said = doit.communicate(timeout=300)[0]
    assert [line for line in lines if "track" in line] and not [line for line in lines if "hunter22" in line]
    assert doit.returncode == 1 and "127.0.0.1" in said and "hunter22" not in said and "Traceback" not in said, said


def test_a_password_that_is_on_a_command_line_is_refused(reported: Project) -> None:
    ran = reported.doit("mlflow", f"to={ADDRESS}:9")
    assert ran.code == 3 and "set MLFLOW_TRACKING_URI" in ran.out and "hunter22" not in ran.out, ran.out

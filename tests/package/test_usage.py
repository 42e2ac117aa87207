"""The programs that the model card and the report show are run, as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripts.package import usage
from tests.served import MODEL_ID

PLAIN = 'Configuration(app_name="example")'
WEB = 'Configuration(app_name="example", web=Configuration.WebService(urls="http://127.0.0.1:0"))'


def run(program: str, home: Path) -> list[str]:
    """The lines that a program prints, in a process with a home of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "HOME": str(home)}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_program_answers_the_first_time_and_every_time_after(package: Path, tmp_path: Path) -> None:
    program = usage.sdk(MODEL_ID, str(package))
    assert run(program, tmp_path)
    assert run(program, tmp_path)


def test_over_http_the_same_model_answers(package: Path, tmp_path: Path) -> None:
    program = usage.sdk(MODEL_ID, str(package))
    lines = usage.http(MODEL_ID)
    assert PLAIN in program
    assert WEB in lines.splitlines()[0]
    assert run(f"{program.replace(PLAIN, WEB)}\n{lines}", tmp_path)


def test_a_folder_is_written_as_it_is_called() -> None:
    assert '"/home/DAVID/$id FOLDER/é"' in usage.sdk(MODEL_ID, "/home/DAVID/$id FOLDER/é")

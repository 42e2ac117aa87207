"""Imports that are left out, because what they make is never used."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = "import sys; print('loaded' if 'lark' in sys.modules else 'left out')"


@pytest.mark.parametrize(
    "program",
    [
        ["-c", f"from scripts.doit_plugin.loader import Loader; Loader(); from scripts.cases import cases; {LOADED}"],
        [
            "-c",
            "import atexit; from scripts.common import program; from scripts.quality.__main__ import app\n"
            f"@app.command()\ndef imports() -> None:\n    from scripts.quality import domain\n    {LOADED}\n"
            "program.main(app)",
            "imports",
        ],
    ],
    ids=["doit", "stage"],
)
def test_neither_doit_nor_a_stage_compiles_a_grammar_of_internet_addresses(program: list[str]) -> None:
    done = subprocess.run([sys.executable, *program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("left out\n", 0), done.stderr


def test_the_schema_of_no_draft_asks_for_such_an_address() -> None:
    files = distribution("jsonschema-specifications").files or []
    schemas = [file.read_text() for file in files if "schemas" in file.parts and not file.suffix]
    assert len(schemas) > 10
    for schema in schemas:
        json.loads(schema)
        assert '"iri' not in schema


AT_THE_END = """
import gc, sys
class Last:
    def __del__(self, frozen=gc.get_freeze_count, write=sys.stdout.write):
        write(f"{frozen() > 0}")
sys.modules["last"] = Last()
from scripts.common import program
app = program.program("ends at once")
@app.command()
def end() -> None: ...
program.main(app)
"""


def test_no_garbage_is_looked_for_as_a_stage_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END, "end"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("True", 0), done.stderr

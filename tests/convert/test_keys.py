"""What the keys of this stage's steps name: the code that acts, and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.engine.sources import Sources
from scripts.engine.state import State
from tests import tiny

QUANTISING = {"scripts.convert.gptq", "scripts.convert.weightonly", "scripts.convert.float16", "scripts.convert.passes"}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(State(tmp_path / "state.db"), "scripts")


def test_an_edit_to_what_quantises_does_not_export_again(sources: Sources) -> None:
    assert set(sources.of("convert", "quantize")) >= QUANTISING
    assert not set(sources.of("convert", "export")) & QUANTISING


def test_an_export_loads_no_code_of_the_project_that_its_key_does_not_name(sources: Sources, tmp_path: Path) -> None:
    checkpoint = tiny.make_checkpoint(tmp_path / "checkpoint")
    script = f"""
import sys
from pathlib import Path
from scripts.convert.export import export
export(Path({str(checkpoint)!r}), Path({str(tmp_path / "export")!r}))
print("loaded", *(name for name in sys.modules if name.startswith("scripts.")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.splitlines()[-1].split()[1:] if name.count(".") > 1}
    plumbing = {
        "scripts.common.errors",
        "scripts.common.program",
    }  # what they do never comes out
    assert loaded - plumbing <= set(sources.of("convert", "export"))
    assert not loaded & QUANTISING

"""What runs is in a session: nothing of it is known process-wide, and what is declared stays as it was declared."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.engine.execute import execute
from scripts.engine.session import Session
from scripts.engine.step import Step


def declared(session: Session, text: Path) -> Step:
    return session.step("copy", session.build / "copy", stage="text", verb="copy", inputs={"source": text}, tools=())


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/x.txt").write_text("alpha")
    return tmp_path / "src"


def test_two_sessions_of_one_process_know_nothing_of_each_other(tmp_path: Path, text: Path) -> None:
    one, other = (Session(tmp_path / name, package="tests.engine.stages") for name in ("one", "other"))
    made, same = declared(one, text), declared(other, text)
    one.begin(force_all=True)
    execute(one, made)
    assert one.is_up_to_date(made) and not one.failed
    assert not other.is_up_to_date(same) and not other.ended and not other.force_all
    assert (one.steps, other.steps) == ({"copy": made}, {"copy": same})


def test_a_step_stays_as_it_was_declared(tmp_path: Path, text: Path) -> None:
    session = Session(tmp_path / "build", package="tests.engine.stages")
    step = declared(session, text)
    before = dict(vars(step))
    session.begin()
    execute(session, step)
    assert session.is_up_to_date(step)
    assert vars(step) == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.verb = "split"  # type: ignore[misc]


def test_an_import_changes_nothing_process_wide() -> None:
    code = ("import gc, signal; before = [signal.getsignal(n) for n in signal.valid_signals()];"
            "import scripts.engine.session, scripts.engine.execute, scripts.doit_plugin.overrides;"
            "assert gc.isenabled() and before == [signal.getsignal(n) for n in signal.valid_signals()]")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)

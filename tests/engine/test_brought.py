"""What a worker keeps of what it was brought: up to a limit, the latest, and whatever is in use."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from scripts.engine import brought as module
from scripts.engine import publish
from scripts.engine.brought import Brought, limit_of
from scripts.engine.digests import Digests
from scripts.engine.state import State


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "inputs").iterdir()}


@pytest.fixture
def brought(tmp_path: Path) -> Brought:
    (tmp_path / publish.WORK).mkdir()
    for number, name in enumerate("abcd"):
        (tmp_path / "inputs" / name).mkdir(parents=True)
        (tmp_path / "inputs" / name / "file").write_bytes(bytes(100))
        os.utime(tmp_path / "inputs" / name, (number, number))
    return Brought(tmp_path, ("inputs",), 250, Digests(State(tmp_path / "state.db")))


def test_what_was_used_least_lately_goes_first(brought: Brought) -> None:
    with brought.using(["inputs/a"]):
        pass
    assert kept(brought.folder) == {"a", "d"}, "a was used just now"


def test_what_is_in_use_stays_though_it_is_too_much(brought: Brought) -> None:
    with brought.using([f"inputs/{name}" for name in "abc"]):
        brought.make_room()
        assert kept(brought.folder) == {"a", "b", "c"}
    assert len(kept(brought.folder)) == 2


def test_two_that_make_room_at_once_remove_no_more_than_one(brought: Brought, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = module._size

    def slowly(folder: Path) -> int:
        time.sleep(0.05)
        return measure(folder)

    monkeypatch.setattr(module, "_size", slowly)
    threads = [threading.Thread(target=brought.make_room) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(brought.folder) == {"c", "d"}


def test_room_that_cannot_be_made_costs_no_job_its_answer(brought: Brought) -> None:
    (brought.folder / publish.WORK).rmdir()
    (brought.folder / publish.WORK).write_text("a file")  # so nothing can be moved below it
    with brought.using(["inputs/a"]):
        pass
    assert kept(brought.folder) == set("abcd")


def test_a_limit_that_is_no_number_is_said_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_WORKER_CACHE", "lots")
    with pytest.raises(ValueError, match="INGOT_WORKER_CACHE"):
        limit_of(tmp_path)

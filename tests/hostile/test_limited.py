"""The frame itself: a limit that nothing can break, or a check that nothing can fail, would prove nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.common.process import Limits
from tests.hostile import limited


def test_a_program_that_takes_too_much_memory_or_time_fails_the_test() -> None:
    hog = "import time; held = b'1' * (300 << 20); time.sleep(60)"
    with pytest.raises(AssertionError, match="of memory"):
        limited.run([sys.executable, "-c", hog], limits=Limits(60, 200 << 20))
    with pytest.raises(AssertionError, match="longer than its limit"):
        limited.run([sys.executable, "-c", "import time; time.sleep(60)"], limits=Limits(0.2, None))


def test_a_stage_in_a_fork_says_what_a_started_one_says(stages: limited.Stages, tmp_path: Path) -> None:
    nowhere, output = tmp_path / "nowhere", tmp_path / "made"
    forked = stages.refused("checkpoint", "build", "nowhere", source=nowhere, output=output)
    words = ["build", "--source", str(nowhere), "--output", str(output)]
    started = limited.run([sys.executable, "-m", "scripts.checkpoint", *words])
    assert (forked.code, forked.out) == (started.code, started.out)


def test_a_stage_in_a_fork_works(stages: limited.Stages, tiny_llama: Path, tmp_path: Path) -> None:
    ended = stages.run("checkpoint", "build", source=tiny_llama, output=tmp_path / "made")
    assert ended.code == 0, ended.out
    assert (tmp_path / "made" / "config.json").exists()


@pytest.mark.parametrize("text", ["a\x1b[31m", "a\rb", "a\u202eb", "a\u200bb", "a\u2028b", "\x00", "\u009b1m"])
def test_what_is_not_clean_is_told(text: str) -> None:
    with pytest.raises(AssertionError, match=r"U\+"):
        limited.clean(text)


def test_a_broken_model_is_told_and_the_sound_one_kept(hostile: limited.Hostile, tmp_path: Path) -> None:
    hostile.beside({"name": "bad", "source": {"path": tmp_path / "nowhere"}})
    hostile.refused("checkpoint:bad", "nowhere")

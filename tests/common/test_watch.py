"""What is computed of a stranger's file is watched: by a child that is a fork, and by one that is started anew."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scripts.common.errors import IngotError
from scripts.common.watch import computing

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, re, sys, time
from scripts.common import program, watch

def app(**_):
    print("begun", flush=True)
    with watch.computing("x.jinja", "to render it", seconds={seconds}, memory=200 << 20, remedy="Give another"):
        {work}
    print("done", flush=True)

over = watch.over
watch.over = lambda again: over([sys.executable, *sys.argv], fork={fork})
program.main(app, watched=True)
"""
WORK = {
    "'a' * 10**10": "takes more than 200 MiB of memory to render it",
    "held = [b'x' * 10**6 for _ in range(10**6)]": "takes more than 200 MiB of memory to render it",
    "re.search('(a|aa)+c', 'a' * 80)": "takes more than 1 s to render it",
    "sum(1 for _ in iter(int, 1))": "takes more than 1 s to render it",
    "os.abort()": "ends the process that is to render it, by signal 6",
    "(f := lambda n: f(n))(1)": "is nested too deeply to render it",
}
#: Those that must break the limit of time.
SLOW = [work for work, said in WORK.items() if " s to " in said]
both = pytest.mark.parametrize("fork", [True, False])


def ran(tmp_path: Path, work: str, fork: bool) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(work=work, fork=fork, seconds=1 if work in SLOW else 30), encoding="utf-8")
    return subprocess.run([sys.executable, str(file)], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""},
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip


@both
@pytest.mark.parametrize("work", WORK)
def test_what_breaks_a_limit_is_ended_and_told_in_one_line(tmp_path: Path, work: str, fork: bool) -> None:
    done = ran(tmp_path, work, fork)
    assert done.returncode == 1
    assert done.stdout == "begun\n"
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line == f"error: x.jinja: {WORK[work]}. Give another"


@both
@pytest.mark.parametrize(("work", "code"), [("pass", 0), ("sys.exit(3)", 3), ("raise ValueError('x')", 1)])
def test_what_breaks_none_ends_as_it_would(tmp_path: Path, work: str, code: int, fork: bool) -> None:
    done = ran(tmp_path, work, fork)
    assert done.returncode == code
    assert ("Traceback" in done.stderr) == (code == 1)


def test_many_short_ones_are_one_long_one(tmp_path: Path) -> None:
    again = """
        pass
    for _ in range(20):
        with watch.computing("x.jinja", "to render it", seconds=1, remedy="Give another"):
            sum(1 for _ in iter(lambda end=time.process_time() + 0.5: time.process_time() > end, True))"""
    assert "takes more than 3 s in all to render it. Give another" in ran(tmp_path, again, True).stderr


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(work="time.sleep(20)", fork=True, seconds=30), encoding="utf-8")
    parent = subprocess.Popen([sys.executable, str(file)], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""},
                              stdout=subprocess.PIPE)  # fmt: skip
    assert parent.stdout and parent.stdout.readline() == b"begun\n"
    children = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert gone and not alive
    parent.stdout.close()


def test_unwatched_it_is_only_the_errors_that_are_told() -> None:
    with computing("x", "to read it"):
        time.sleep(0)
    with (
        pytest.raises(IngotError, match=r"^x: takes more than 512 MiB of memory to read it"),
        computing("x", "to read it"),
    ):
        raise MemoryError

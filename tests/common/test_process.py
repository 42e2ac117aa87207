"""Children: how short commands and children that are asked end, and that no other module starts any."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scripts.common import process
from scripts.common.childenv import PRIVATE
from scripts.common.json_child import ClosedError, GarbledError, JsonChild, SilentError

ROOT = Path(__file__).parents[2]
#: A child that answers {"say": text} with that text as it is, and does what else it is asked.
CHILD = """
import json, os, sys, time
from scripts.common import json_child, lifeline
lifeline.hold()
def answer(request):
    print("what a library prints")
    if request["do"] == "hang":
        time.sleep(600)
    if request["do"] == "end":
        os._exit(7)
    return {"environment": dict(os.environ), "group": os.getpgrp(), "folder": os.getcwd()}
json_child.answer(answer)
"""


def is_gone(pid: int) -> bool:
    """Whether a process has ended within a moment, be it that nobody has asked yet what it ended with."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def child(tmp_path: Path) -> Iterator[JsonChild]:
    made = JsonChild([sys.executable, "-c", CHILD], errors=tmp_path / "errors.log")
    yield made
    made.end()


def test_a_child_answers_and_what_its_libraries_print_is_not_taken_for_an_answer(child: JsonChild) -> None:
    assert child.ask({"do": "tell"}, 60)["folder"] == str(ROOT)
    assert child.ask({"do": "tell"}, 60)["group"] == os.getpgrp()


def test_a_child_that_does_not_answer_in_time_is_killed(child: JsonChild) -> None:
    with pytest.raises(SilentError, match="no reply in 3 s"):
        child.ask({"do": "hang"}, 3)
    assert child.code() == -signal.SIGKILL


def test_a_child_that_ends_is_told_from_one_that_hangs(child: JsonChild) -> None:
    with pytest.raises(ClosedError):
        child.ask({"do": "end"}, 60)
    assert child.code() == 7


def test_what_is_not_json_is_not_taken_for_an_answer() -> None:
    child = JsonChild([sys.executable, "-c", "input(); print('<html>', flush=True); input()"])
    with pytest.raises(GarbledError, match="<html>"):
        child.ask({}, 60)
    child.end()


def test_a_request_that_nobody_reads_does_not_wait_for_ever() -> None:
    child = JsonChild([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(SilentError):
        child.ask({"text": "x" * (1 << 20)}, 1)
    child.end()


def test_a_child_is_not_given_what_a_build_told_its_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in PRIVATE:
        monkeypatch.setenv(name, "1")
    made = JsonChild([sys.executable, "-c", CHILD], errors=tmp_path / "more.log", without=["HOME"])
    seen = made.ask({"do": "tell"}, 60)["environment"]
    made.end()
    assert set(PRIVATE) & set(seen) == {"INGOT_PARENT"}
    assert seen["INGOT_PARENT"] == str(os.getpid())
    assert "HOME" not in seen


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a busy child ends at its next request")
def test_a_child_that_is_busy_dies_with_its_parent() -> None:
    script = f"""
import sys
from scripts.common.json_child import JsonChild
child = JsonChild([sys.executable, "-c", {CHILD!r}])
child.ask({{"do": "tell"}}, 60)
print(child.pid, flush=True)
child.ask({{"do": "hang"}}, 600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert is_gone(pid)


def test_a_short_command_says_how_it_ended_and_what_it_wrote() -> None:
    said = process.capture(["sh", "-c", "echo out; echo err >&2; exit 3"], seconds=60)
    assert said == process.Said(3, "out\n", "err\n", too_long=False)


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started() -> None:
    begin = time.monotonic()
    said = process.capture(["sh", "-c", "sleep 600 & echo $!; wait"], seconds=1)
    assert said.too_long
    assert time.monotonic() - begin < 60
    assert is_gone(int(said.output))
    assert process.call(["sleep", "600"], seconds=0.5) == -signal.SIGKILL


def test_the_output_of_a_called_command_goes_where_ours_does(capfd: pytest.CaptureFixture[str]) -> None:
    assert process.call(["sh", "-c", "echo out; exit 4"], seconds=60) == 4
    assert capfd.readouterr().out == "out\n"


def test_no_other_module_starts_processes() -> None:
    found = []
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if {"subprocess", "multiprocessing"} & {name.split(".")[0] for name in names}:
                found.append(path.relative_to(ROOT / "scripts").as_posix())
    assert found == ["common/process.py"]


#: A second Ctrl-C while the handler of the first is at its nth line, whichever module that is in.
TWICE = """
import os, signal, sys
from scripts.common import process
left = int(sys.argv[1])
def trace(frame, event, arg):
    global left
    left -= event == "line"
    if event == "line" and not left:
        os.kill(os.getpid(), signal.SIGINT)
    return trace
process.take_signals()
try:
    sys.settrace(trace)
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass
except KeyboardInterrupt:
    sys.settrace(None)
    print("ended", left)
"""


@pytest.mark.skipif(os.name == "nt", reason="it has no signals of this kind")
def test_a_signal_that_comes_while_another_is_handled_ends_as_one() -> None:
    for line in range(1, 40):
        done = subprocess.run(
            [sys.executable, "-c", TWICE, str(line)], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.stdout.startswith("ended"), (line, done.stderr)
        if int(done.stdout.split()[1]) > 0:  # it has no such line: all were tried
            break
    assert line > 3


#: A second Ctrl-C when Python has given the signals their usual effect back, and ends.
AT_THE_END = """
import os, signal, sys
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGINT):
        kill(pid, number)
sys.modules["last"] = Last()
"""
BUILD = (
    AT_THE_END
    + """
from scripts.common import process
process.take_signals()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    sys.exit(130)
"""
)
STAGE = (
    AT_THE_END
    + """
from scripts.common import program
app = program.program("stopped at once")
@app.command()
def stop() -> None:
    raise KeyboardInterrupt
sys.argv[1:] = ["stop"]
program.main(app)
"""
)


@pytest.mark.skipif(os.name == "nt", reason="it has no signals of this kind")
@pytest.mark.parametrize("code", [BUILD, STAGE], ids=["build", "stage"])
def test_a_signal_that_comes_while_python_ends_leaves_the_exit_code(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr

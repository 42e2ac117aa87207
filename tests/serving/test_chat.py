"""`doit chat`: one answer for scripts, and a conversation in a pseudo-terminal; both in the real runtime."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from scripts.cases import cases
from tests.doit_plugin.terminal import ESCAPE
from tests.needs import in_a_namespace
from tests.serving.conftest import GRASS, SKY, cache_of, make
from tests.system.project import ROOT, Project


def ask(project: Project, *words: str, given: str | bytes | None = None) -> subprocess.CompletedProcess[str]:
    data = given.encode() if isinstance(given, str) else given
    done = subprocess.run(
        project.command("chat", *words), cwd=ROOT, env=project.environment(), input=data or b"", capture_output=True,
        check=False, timeout=120,
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_script_gets_the_answer_alone_by_option_or_by_standard_input(served: Project) -> None:
    for words, given in ((("tiny", "--greedy", "-m", SKY[0]), None), (("--greedy",), f"{SKY[0]}\n")):
        done = ask(served, *words, given=given)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{SKY[1]}\n", "")


def test_an_answer_that_is_cut_off_says_so_beside_it(served: Project) -> None:
    done = ask(served, "tiny-fp32", "-m", SKY[0], "--tokens=2", "--greedy")
    assert done.returncode == 0
    assert SKY[1].startswith(done.stdout.strip()) and len(done.stdout.split()) <= 2
    assert done.stderr == "cut off after 2 tokens\n"


def test_what_is_said_may_look_like_a_variable_of_doits(served: Project) -> None:
    done = ask(served, "tiny", "--tokens", "1", "-m", "colour=blue", "--system", "answer=short")
    assert (done.returncode, done.stderr) == (0, "cut off after 1 tokens\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tinny"], 3, "there is no such model in"),
        (["tinny"], 3, "Did you mean tiny?"),
        (["tiny-half"], 3, "tiny-half: is not deployed: KL 0.4 is above the gate of 0.25"),
        (["tiny-fp32-generic-cpu:7"], 3, "Did you mean tiny-fp32"),
        (["tiny", "tiny-half"], 3, "names 2 models"),
        (["tiny", "--tokens", "0"], 3, "expected a number from 1 on"),
        (["tiny", "--mesage", "x"], 3, "Did you mean --message?"),
        (["tiny", "port=1"], 3, "there is no such variable"),
    ],
)
def test_a_mistake_is_one_line_and_exits_3(served: Project, words: list[str], code: int, said: str) -> None:
    done = ask(served, *words, *([] if "--mesage" in words else ["-m", "hi"]))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.needs("namespaces")
def test_a_cache_that_cannot_be_written_is_told_with_what_to_do(served: Project) -> None:
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; "$@"'
    words = served.command("chat", "tiny", "-m", "x")
    done = in_a_namespace(script, cache_of(served), *words, cwd=ROOT, env=served.environment())
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert "The runtime locks the list of its models there: make that folder writable" in done.stderr


@pytest.mark.parametrize(("given", "said"), [(b"", "nothing is asked"), (b"\xff\xfe", "is not UTF-8")])
def test_nothing_to_ask_is_told(served: Project, given: bytes, said: str) -> None:
    done = ask(served, "tiny", given=given)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


def sit_at(terminal: int) -> None:
    """Have Ctrl-C in `terminal` mean this process, as where a person sits; pytest may have been told to ignore it."""
    os.login_tty(terminal)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Talk:
    """`doit chat` in a pseudo-terminal."""

    def __init__(self, project: Project, *words: str) -> None:
        self.ours, its = pty.openpty()
        attributes = termios.tcgetattr(its)
        attributes[3] &= ~termios.ECHO  # what is typed is not to be taken for an answer
        termios.tcsetattr(its, termios.TCSANOW, attributes)
        environment = {**project.environment(), "TERM": "dumb"}
        self.child = subprocess.Popen(
            project.command("chat", *words), cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its,
            preexec_fn=lambda: sit_at(its),
        )  # fmt: skip
        os.close(its)
        self.seen = ""

    def until(self, text: str, seconds: float = 60) -> str:
        """All that was drawn until the text came; then that is forgotten."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert select.select([self.ours], [], [], max(0.0, end - time.monotonic()))[0], self.seen
            got = os.read(self.ours, 1 << 16).decode("utf-8", "replace")
            self.seen += ESCAPE.sub("", got).replace("\r\n", "\n").replace("\r", "")
        before, _, self.seen = self.seen.partition(text)
        return before

    def say(self, line: str) -> str:
        """A line, and what came back before the next prompt."""
        os.write(self.ours, f"{line}\n".encode())
        return self.until("> ")

    def press(self, key: bytes) -> None:
        os.write(self.ours, key)

    def interrupt_the_prompt(self) -> None:
        """Ctrl-C, again where none was seen: Python misses one between its drawing a prompt and its waiting."""
        for _ in range(12):
            self.press(b"\x03")
            if select.select([self.ours], [], [], 5)[0]:
                break
        self.until("(Ctrl-D ends)")
        self.until("> ")

    def end(self) -> int:
        try:
            return self.child.wait(30)
        finally:
            self.child.kill()
            self.child.wait()
            os.close(self.ours)


def test_a_conversation_remembers_forgets_and_saves_a_case(tmp_path: Path, package: Path) -> None:
    project = make(tmp_path / "a project", package)
    talk = Talk(project, "tiny", "--greedy")
    assert "/help tells what there is" in talk.until("> ")
    assert "/save case" in talk.say("/help")
    assert talk.say(SKY[0]) == f"{SKY[1]}\n"
    assert talk.say("/system Be brief.") == "system: Be brief.\n"
    assert "Did you mean /reset?" in talk.say("/rest")
    assert talk.say("/reset") == "(forgotten)\n"
    assert "nothing was said yet" in talk.say("/save case")
    talk.say("/system")
    second = talk.say(GRASS[0]).strip()
    assert "saved as chat-" in talk.say("/save case green")
    os.write(talk.ours, b"/save case\n")
    talk.until("expected> ")
    assert "saved as chat-" in talk.say("")
    talk.press(b"\x04")
    assert talk.end() == 0
    saved = cases.load(project.config / "eval" / "cases.jsonl")
    assert [case.expect.contains for case in saved] == [("blue",), ("green",), ()]
    assert saved[2].expect.exact == second
    roles = [message["role"] for message in saved[1].messages]
    assert roles == ["system", "user"]  # what was forgotten is not in it
    assert saved[1].messages[1]["content"] == GRASS[0]


def test_ctrl_c_stops_an_answer_and_not_the_program(endless: Project) -> None:
    talk = Talk(endless, "tiny")
    talk.until("> ")
    talk.interrupt_the_prompt()
    talk.press(b"Say it all.\n")
    os.read(talk.ours, 1)
    talk.press(b"\x03")
    talk.until(" (stopped)\n> ")  # what it says may hold a prompt
    assert talk.say("/reset") == "(forgotten)\n"
    os.write(talk.ours, b"Say it all.\n")
    talk.until("(cut off after ")  # without Ctrl-C it goes on to the end of its context
    talk.until("> ")
    talk.press(b"/quit\n")
    assert talk.end() == 0


def test_sigterm_to_doit_ends_the_program_behind_it_too(served: Project) -> None:
    talk = Talk(served, "tiny")
    talk.until("> ")
    below = subprocess.run(["pgrep", "-P", str(talk.child.pid)], capture_output=True, text=True).stdout.split()
    assert below
    talk.child.send_signal(signal.SIGTERM)
    assert talk.end() != 0
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)


def test_a_models_own_listing_marks_what_others_put_there(tmp_path: Path, package: Path, onnx_folder: Path) -> None:
    from scripts.runtime.foundry import Runtime
    from tests.serving.conftest import cache_of

    project = make(tmp_path / "a project", package)
    with Runtime(cache_of(project)) as runtime:
        runtime.register(onnx_folder, "theirs:3")
    own, theirs = json.loads(project.doit("models", "--json").out)
    assert (own["model"], own["precision"], own["version"], own["target"]) == ("tiny", "fp32", 1, "cpu")
    assert own["size_bytes"] > 1e6
    assert (own["verified_at"], own["verified_by"]) == ("2026-01-02T03:04:05+00:00", "a runtime")
    assert own["by"] == str(project.config)
    assert (theirs["id"], theirs["by"], theirs["version"], theirs["verified_at"]) == ("theirs:3", "others", 3, None)
    table = project.doit("models").out
    assert "this configuration" in table and "others" in table
    assert ask(project, "theirs", "-m", SKY[0], "--greedy").stdout == f"{SKY[1]}\n"
    refused = project.doit("undeploy", "theirs:3")
    assert refused.code == 1 and "was not put there by Ingot" in refused.out

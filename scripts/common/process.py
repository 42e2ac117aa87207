"""Where every child process is started: logged, limited, measured and, always, ended.

A step of a build is the leader of its own process group. It dies with its parent, even if that is killed, and takes its
group along: `scripts.common.lifeline` is the child's half of that. What a step starts itself stays in that group, so
that whatever ends the step ends all of it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, BinaryIO

from scripts.common.childenv import LIFELINE, LIFELINE_PIPE, PRIVATE
from scripts.common.tree_memory import tree_memory

_POLL, _FIRST_POLL = 0.2, 0.02  # seconds; a short step's memory is worth knowing too
#: After this many signals the build ends at once, tidy or not.
_IMPATIENT = 4
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

PIPE = subprocess.PIPE
_living: set[Child] = set()
#: A plain flag: an Event takes a lock to be set, and a second signal may come while the first is at that.
_interrupted = False
_signals = 0


@dataclass(frozen=True)
class Limits:
    """What a child may use: wall time in seconds, memory of its whole tree in bytes; None is no limit.

    `setting`: where a user can change them, such as "limits.export in models.toml". `likely_bytes`: the memory that it
    will probably take, as far as that is known before it ever ran.
    """

    seconds: float | None = None
    memory_bytes: int | None = None
    setting: str = ""
    likely_bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit code, wall seconds, the tree's peak resident memory in bytes, which limit it broke."""

    code: int
    seconds: float
    peak_rss: int
    broke: str | None


@dataclass(frozen=True)
class Said:
    """What a short command wrote, how it ended, and whether it had to be ended for taking too long."""

    code: int
    output: str
    errors: str
    too_long: bool


class Child(subprocess.Popen[bytes]):
    """A process that was started here; `leads` a group of its own, or belongs to that of this process."""

    leads = False


class StoppedBuildError(KeyboardInterrupt):
    """The whole build ends now, for the reason that it carries. No step failed, so `except Exception` lets it pass."""


class InterruptedBuildError(StoppedBuildError):
    """The build is being stopped (Ctrl-C, SIGTERM); the child was ended and its work is void."""


def start(
    command: Sequence[str], *, leads: bool, stdin: int | None, stdout: int | IO[bytes] | None,
    stderr: int | IO[bytes] | None, env: Mapping[str, str] | None = None, without: Sequence[str] = (),
    folder: Path | None = None,
) -> Child:  # fmt: skip
    """Start a child and return at once; whoever calls this must end it (`end_tree`).

    `leads`: whether it gets a process group of its own. It sees our environment with `env` over it, but not the
    variables named by `without`, nor what a build tells us alone. `folder`: where it runs, if not where we do.
    """
    seen = {name: value for name, value in os.environ.items() if name not in (*PRIVATE, *without)}
    child = Child(
        list(command), stdin=stdin, stdout=stdout, stderr=stderr, env={**seen, **(env or {})}, cwd=folder,
        start_new_session=leads and os.name != "nt",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) if leads else 0,
    )  # fmt: skip
    child.leads = leads
    return child


def run(
    command: Sequence[str], *, log: Path, env: Mapping[str, str], limits: Limits, on_line: Callable[[str], None],
    is_wanted: Callable[[], bool] = lambda: True,
) -> Ended:  # fmt: skip
    """Run `command` to its end, or until it is no longer wanted; its output goes to `log`, the newest line of that also
    to `on_line`.

    Raises `InterruptedBuildError` where the build is being stopped; nothing of the child's tree is left either way.
    """
    check_interrupted()
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as written, log.open("rb") as read:
        child = start(
            command, leads=True, stdin=subprocess.PIPE, stdout=written, stderr=subprocess.STDOUT,
            env={**env, LIFELINE: str(os.getpid()), LIFELINE_PIPE: "1", "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        _living.add(child)
        peak, most, broke, pause = 0, 0, None, _FIRST_POLL
        try:
            with _Exit(child) as exited:
                while not _interrupted and not exited.within(pause):
                    pause = min(2 * pause, _POLL)
                    resident, own = tree_memory(child.pid)
                    peak, most = max(peak, resident), max(most, own)
                    if line := _newest_line(read):
                        on_line(line)
                    if not is_wanted():
                        broke = "it was no longer wanted"
                    if broke := broke or _broken(limits, time.monotonic() - started, most):
                        break
        finally:
            end_tree(child)
            _living.discard(child)
    check_interrupted()
    return Ended(child.returncode, time.monotonic() - started, peak, broke)


def capture(command: Sequence[str], *, seconds: float) -> Said:
    """Run a short command, with nothing to read, and return what it wrote. Raises `OSError` if it can't be started."""
    child = start(command, leads=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    too_long = False
    try:
        output, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        too_long = True
        kill_tree(child)
        output, errors = child.communicate()
    finally:
        end_tree(child)
    return Said(child.returncode, _text(output), _text(errors), too_long)


def call(command: Sequence[str], *, seconds: float, env: Mapping[str, str] | None = None) -> int:
    """Run a command that inherits our output, and our environment with `env` over it; returns its exit code, that of a
    kill where it takes too long.
    """
    child = start(command, leads=False, stdin=subprocess.DEVNULL, stdout=None, stderr=None, env=env)
    try:
        wait(child, seconds)
    finally:
        end_tree(child)
    return child.returncode


def wait(child: Child, seconds: float) -> int | None:
    """What a child ended with, -N for signal N; None where it still lives after so many seconds."""
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


def check_interrupted() -> None:
    """Raise `InterruptedBuildError` where the build is being stopped: for threads, which no signal reaches."""
    if _interrupted:
        raise InterruptedBuildError


def is_interrupted() -> bool:
    """Whether the build is being stopped."""
    return _interrupted


def take_signals() -> None:
    """From now on Ctrl-C, SIGTERM and a closed terminal end the children and raise `KeyboardInterrupt`, once.

    They stay without effect while Python ends: it gives them their usual one first, and a second Ctrl-C would then
    change the exit code of a build that has tidied up.
    """
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup wants it ignored
            signal.signal(number, _on_signal)
    atexit.register(_replace_handler, signal.SIG_IGN)


def give_signals_back() -> None:
    """The build is over: a signal now has its usual effect, and no traceback."""
    _replace_handler(signal.SIG_DFL)


def _replace_handler(by: signal.Handlers) -> None:
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is _on_signal:
            signal.signal(number, by)


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    global _signals
    _signals += 1
    first = not _interrupted
    end_all()
    if first:
        raise KeyboardInterrupt  # once: a second one would cut the tidying short
    if _signals >= _IMPATIENT:
        os._exit(130)


def end_all() -> None:
    """Stop the build: kill every child, and let every `run()` raise `InterruptedBuildError`."""
    global _interrupted
    _interrupted = True
    for child in list(_living):
        kill_tree(child)


def end_tree(child: Child) -> None:
    """End a child and all below it, or its whole group; safe to call twice, and when it has ended by itself."""
    kill_tree(child)
    if child.stdin:
        with contextlib.suppress(OSError):
            child.stdin.close()
    child.wait()


def kill_tree(child: Child) -> None:
    """Kill a child and all below it, or its whole group, and do not wait for their end."""
    if os.name == "nt" or not child.leads:
        if child.poll() is not None:  # its number may be another's by now
            return
        import psutil

        with contextlib.suppress(psutil.Error):
            for process in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
                process.kill()
        return
    # The group outlives its leader while a grandchild lives, and its number is not reused until then.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


class _Exit:
    """Waits for a child's end without turning in circles, where the system has a way to."""

    def __init__(self, child: Child) -> None:
        self._child, self._handle = child, -1

    def __enter__(self) -> _Exit:
        with contextlib.suppress(AttributeError, OSError):
            self._handle = os.pidfd_open(self._child.pid)
        return self

    def within(self, seconds: float) -> bool:
        """Whether it has ended, at the latest in so many seconds."""
        if self._handle < 0:
            return wait(self._child, seconds) is not None
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000)) and self._child.poll() is not None

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)


def _broken(limits: Limits, seconds: float, memory: int) -> str | None:
    raise_it = f"raise {limits.setting}" if limits.setting else "raise its limit"
    if limits.seconds is not None and seconds > limits.seconds:
        span = f"{limits.seconds / 60:.0f} minutes" if limits.seconds >= 120 else f"{limits.seconds:g} s"
        return f"it ran longer than its limit of {span} and was ended. If it only needs more time, {raise_it}"
    if limits.memory_bytes is not None and memory > limits.memory_bytes:
        used = f"{memory / 2**30:.1f} GiB of memory, its limit is {limits.memory_bytes / 2**30:.1f} GiB"
        return f"it used {used}, and it was ended. Take a smaller model or a larger machine, or {raise_it}"
    return None


def _newest_line(log: BinaryIO) -> str:
    """The last whole line written since the last call; progress bars that return the carriage count as lines."""
    lines = log.read().decode("utf-8", "replace").replace("\r", "\n").rstrip("\n").rsplit("\n", 1)
    return lines[-1].strip()

"""The one door to child processes: every stage of a build starts here, is logged, limited, measured and, always, ended.

A child is the leader of its own process group. It dies with its parent, even if that is killed: its standard input is
a pipe that nobody writes to, and its end is the parent's end (`lifeline`); on Linux the kernel is asked as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.engine.childenv import LIFELINE

_POLL = 0.2
_PR_SET_PDEATHSIG = 1

_living: set[subprocess.Popen[bytes]] = set()
_interrupted = threading.Event()


@dataclass(frozen=True)
class Limits:
    """What a child may use: wall time in seconds, resident memory of its whole tree in bytes; None is no limit."""

    seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit code, wall seconds, the tree's peak resident memory in bytes, which limit it broke."""

    code: int
    seconds: float
    peak_rss: int
    broke: str | None


class InterruptedBuildError(Exception):
    """The build is being stopped (Ctrl-C, SIGTERM); the child was ended and its work is void."""


def run(
    command: Sequence[str], *, log: Path, env: Mapping[str, str], limits: Limits, on_line: Callable[[str], None]
) -> Ended:
    """Run `command` to its end; its output goes to `log`, the newest line of it also to `on_line`.

    Raises `InterruptedBuildError` where the build is being stopped; nothing of the child's tree is left either way.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as written, log.open("rb") as read:
        child = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=written, stderr=subprocess.STDOUT,
            env={**os.environ, **env, LIFELINE: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            start_new_session=os.name != "nt",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )  # fmt: skip
        _living.add(child)
        peak, broke = 0, None
        try:
            while _wait(child, _POLL) is None:
                peak = max(peak, tree_rss(child.pid))
                broke = _broken(limits, time.monotonic() - started, peak)
                if line := _newest_line(read):
                    on_line(line)
                if broke or _interrupted.is_set():
                    break
        finally:
            end_tree(child)
            _living.discard(child)
    if _interrupted.is_set():
        raise InterruptedBuildError
    return Ended(child.returncode, time.monotonic() - started, peak, broke)


def end_all() -> None:
    """Stop the build: end every child, and let every `run()` raise `InterruptedBuildError`."""
    _interrupted.set()
    for child in list(_living):
        end_tree(child)


def tree_rss(pid: int) -> int:
    """Resident memory, in bytes, of a process and all below it; 0 where it has ended."""
    total = 0
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        total = top.memory_info().rss
        for child in top.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_info().rss
    return total


def end_tree(child: subprocess.Popen[bytes]) -> None:
    """End a child and everything in its process group; safe to call twice, and when it has ended by itself."""
    if os.name == "nt":
        with contextlib.suppress(psutil.Error):
            for process in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
                process.kill()
    else:
        # The group outlives its leader while a grandchild lives, and its number is not reused until then.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    if child.stdin:
        with contextlib.suppress(OSError):
            child.stdin.close()
    child.wait()


def hold_lifeline() -> None:
    """Called by a child at its start: from now on it, and its group, end when the parent does."""
    parent = os.environ.get(LIFELINE)
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.name != "nt" and os.getppid() != int(parent):  # it died before we could ask the kernel
        _end_own_group()
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    while os.read(0, 1):
        pass
    _end_own_group()


def _end_own_group() -> None:
    if os.name != "nt":
        os.killpg(0, signal.SIGKILL)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    os._exit(1)


def _wait(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _broken(limits: Limits, seconds: float, rss: int) -> str | None:
    if limits.seconds is not None and seconds > limits.seconds:
        return f"it ran longer than its limit of {limits.seconds:.0f} s"
    if limits.memory_bytes is not None and rss > limits.memory_bytes:
        return f"it used {rss / 2**30:.1f} GiB of memory, its limit is {limits.memory_bytes / 2**30:.1f} GiB"
    return None


def _newest_line(log: object) -> str:
    """The last whole line written since the last call; progress bars that return the carriage count as lines."""
    data: bytes = log.read()  # type: ignore[attr-defined]
    lines = data.decode("utf-8", "replace").replace("\r", "\n").rstrip("\n").rsplit("\n", 1)
    return lines[-1].strip()

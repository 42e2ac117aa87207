"""doit in a forked process: as real as a started one, in a fraction of the time; and killed at a chosen point.

The point is counted in file operations: everything that the engine does to the disk goes through these functions of
`os` and `open`, so a death before each of them is a death between every two of them.
"""

from __future__ import annotations

import builtins
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doit.cmd_run
from doit.doit_cmd import DoitMain

import scripts.doit_plugin.overrides
import scripts.doit_plugin.reporter  # noqa: F401  (imported once, here, and not by every fork)
from scripts.common import hashes, tools
from tests.engine.projects import Project

OPERATIONS = ("rename", "replace", "mkdir", "unlink", "rmdir", "symlink", "link", "chmod", "utime", "fsync", "open",
              "fstat", "scandir")  # fmt: skip


def count_to(limit: int | None, seen: Path) -> None:
    """Kill this process right before its file operation number `limit`, and none of its children; note the count."""
    counter, me = itertools.count(1), os.getpid()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if os.getpid() == me:
                number = next(counter)
                if number == limit:
                    os.kill(me, signal.SIGKILL)
                if limit is None:
                    real_write(handle, b".")
            return function(*args, **named)

        return call

    real_write, handle = os.write, os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    builtins.open = counted(builtins.open)


def start(project: Project, *words: str, before: Callable[[], None] | None = None, to: str = "said.txt") -> int:
    """Fork a doit; its process id. What it prints goes to the file `to` in the project's folder."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # until doit takes it, as if there were no Python around it
        os.chdir(project.folder)
        said = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout = out = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        doit.cmd_run.opt_outfile["default"] = sys.stdout  # it keeps what it was when it was imported
        os.environ.update(project.environment())
        tempfile.tempdir = None  # asked for anew
        hashes._LARGE = 1 << 62  # BLAKE3's threads, if another test started them, are not in the fork: do without
        for cached in (tools.installed, tools._installed):  # a started doit knows nothing yet
            cached.cache_clear()
        if before:
            before()
        code = int(DoitMain().run(list(words)) or 0)
        out.flush()
    finally:
        os._exit(code)


def end(pid: int, seconds: float = 60) -> int:
    """Wait for a fork; its exit code, or minus the signal that ended it."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("doit hangs")


def run(project: Project, *words: str, code: int = 0) -> str:
    """Run doit in a fork and see that it exits as expected, without a traceback; what it printed."""
    found = end(start(project, *words))
    said = (project.folder / "said.txt").read_text()
    assert found == code, f"exit code {found}: {said}"
    assert "Traceback" not in said, said
    return said


def children_of(folder: Path) -> list[int]:
    """Living processes whose command line or current folder is below `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid():
            try:
                line = (process / "cmdline").read_bytes().decode(errors="replace")
                here = str((process / "cwd").readlink())
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if (str(folder) in line or here.startswith(str(folder))) and state != "Z":
                found.append(int(process.name))
    return found


def wait_for(holds: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something holds."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it never came to it"
        time.sleep(0.01)

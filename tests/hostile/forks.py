"""`python -m tests.hostile.forks MODULE …`: loads modules once, then runs programs in forks of itself, as it is asked.

A request names module, words, log, seconds and memory (bytes), and the share of their time that the program gives what
it watches; the reply tells exit code, seconds, peak memory in bytes (without the pages of files) and which limit was
broken, if any.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import time
from typing import Any

from scripts.common import json_child, lifeline, watch
from scripts.common.childenv import LIFELINE
from scripts.common.tree_memory import tree_memory


def _run(request: dict[str, Any]) -> dict[str, Any]:
    started, peak, broke = time.monotonic(), 0, None
    pid = os.fork()
    if not pid:
        _become(request)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        peak = max(peak, tree_memory(pid)[1])
        took = time.monotonic() - started
        if took > request["seconds"] or peak > request["memory"]:
            broke = f"it took {took:.0f} s and {peak >> 20} MiB"
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "took": time.monotonic() - started, "peak": peak, "broke": broke}


def _become(request: dict[str, Any]) -> None:
    """Be the program; never returns."""
    code = 70
    try:
        os.setsid()
        os.environ[LIFELINE] = str(os.getppid())
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, encoding="utf-8", closefd=False) for n in (1, 2))
        watch.pace = request["pace"]
        sys.argv = [request["module"], *request["words"]]
        try:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:  # noqa: BLE001  (as the interpreter would: a traceback)
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    lifeline.hold()
    for name in sys.argv[1:]:
        importlib.import_module(name)
    json_child.answer(_run)

"""doit's commands, where Ingot adds to them: an honest exit code, an orderly end, a clean that leaves no litter."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

from doit.cmd_base import check_tasks_exist, subtasks_iter
from doit.cmd_clean import Clean as DoitClean
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand, InvalidDodoFile

from scripts.engine import build, inodes, publish
from scripts.engine.engine import ENGINES, STEPS, Engine
from scripts.engine.errors import IngotError
from scripts.engine.run import StoppedBuildError, end_all, take_signals

_TIDY_SECONDS = 5.0


class Run(DoitRun):  # type: ignore[misc]
    """`doit run`: exits 1 where a step failed, 130 where it was stopped; children never outlive it."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        take_signals()
        Engine.force_all = bool(params["always"])
        try:
            code: int = super().execute(params, args)
        except KeyboardInterrupt as stopped:
            end_all()
            build.settle(_TIDY_SECONDS)
            if isinstance(stopped, StoppedBuildError) and str(stopped):
                print(stopped, file=sys.stderr)
                return 1
            print("\nstopped; what was finished is kept, `doit` goes on from here", file=sys.stderr)
            return 130
        return code or int(any(engine.failed for engine in ENGINES))


class Clean(DoitClean):  # type: ignore[misc]
    """`doit clean`: without a task it also removes logs, store and locks, so that nothing of a build is left."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        code: int = super().execute(params, args) or 0
        if not args and not params["dryrun"]:
            for engine in ENGINES:
                for name in ("logs", "store", ".locks", publish.WORK):
                    inodes.remove(str(engine.build / name), engine.digests)
        return code


class Forget(DoitForget):  # type: ignore[misc]
    """`doit forget`: the steps named are built again at the next run, not restored either."""

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> int:
        tasks = {task.name: task for task in self.task_list}
        if forget_all:
            names = list(tasks)
        else:
            check_tasks_exist(tasks, self.sel_tasks or [])
            names = [
                name
                for task in self.sel_tasks or []
                for name in (task, *(sub.name for sub in subtasks_iter(tasks, tasks[task])))
            ]
        super()._execute(forget_sub, forget_disable_default, forget_all)
        for name in names:
            if name in STEPS:
                STEPS[name].disown()
        return 0


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """For commands that only tell: `| head` ends them quietly, and what follows a stale step is stale."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    Engine.looks_ahead = True
    try:
        yield
    except IngotError as error:
        raise InvalidDodoFile(str(error)) from None


class List(DoitList):  # type: ignore[misc]
    """`doit list`: with `--status`, a step that follows a stale one is shown as one that will run."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with _reading():
            return super().execute(params, args) or 0


class Info(DoitInfo):  # type: ignore[misc]
    """`doit info`: says why a step is not up to date."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with _reading():
            return super().execute(params, args) or 0

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        names = {task.name for task in self.task_list}
        if len(pos_args) == 1 and pos_args[0] not in names:
            raise InvalidCommand(not_found=pos_args[0])
        return super()._execute(pos_args, hide_status) or 0

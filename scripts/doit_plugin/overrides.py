"""doit's own commands, where Ingot adds to them: an honest exit code, an orderly end, a clean that leaves no litter.

The entry points of all commands lead here; those that only Ingot has are in `own_commands`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from doit.cmd_base import check_tasks_exist, subtasks_iter
from doit.cmd_clean import Clean as DoitClean
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand

from scripts.common.errors import IngotError
from scripts.doit_plugin.commands import Accept, Check, Gate, Gc, Why, reading
from scripts.doit_plugin.tasks import Current
from scripts.engine import publish
from scripts.engine.process import StoppedBuildError, end_all, give_signals_back, take_signals
from scripts.engine.session import ENGINES, STEPS, Engine

__all__ = ["Accept", "Check", "Clean", "Forget", "Gate", "Gc", "Info", "List", "Run", "Why"]

_TIDY_SECONDS = 5.0


class Run(DoitRun):  # type: ignore[misc]
    """`doit run`: exits 1 where a step failed, 130 where it was stopped; children never outlive it."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        take_signals()
        Engine.force_all = bool(params["always"])
        try:
            code: int = super().execute(params, args)
            give_signals_back()  # in here: one that comes between is still met
        except KeyboardInterrupt as stopped:
            from scripts.engine import execute

            end_all()
            execute.settle(_TIDY_SECONDS)
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
            from scripts.engine import tree

            for engine in ENGINES:
                for name in ("logs", "store", ".locks", publish.WORK):
                    tree.remove(str(engine.build / name), engine.digests)
        return code

    def clean_tasks(self, tasks: list[Any], dryrun: bool, cleanforget: bool) -> None:
        """Doit calls this with the tasks in order, those that need others first."""
        from scripts.engine.clean import clean

        for task in tasks:
            if task.name in STEPS:
                try:
                    clean(STEPS[task.name], dryrun)
                except IngotError as error:
                    raise InvalidCommand(str(error)) from None
        super().clean_tasks([task for task in tasks if task.name not in STEPS], dryrun, cleanforget)


class Forget(DoitForget):  # type: ignore[misc]
    """`doit forget`: the steps named are built again at the next run, not restored either."""

    sel_tasks: list[str] | None

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> int:
        tasks = {task.name: task for task in self.task_list}
        if forget_all:
            names = list(tasks)
        else:
            # Without default tasks `doit` runs all; doit's own forget ends in a traceback then.
            selected = list(tasks) if self.sel_tasks is None else self.sel_tasks
            self.sel_tasks = selected
            check_tasks_exist(tasks, selected)
            names = [
                name for task in selected for name in (task, *(sub.name for sub in subtasks_iter(tasks, tasks[task])))
            ]
        super()._execute(forget_sub, forget_disable_default, forget_all)
        for name in names:
            if name in STEPS:
                STEPS[name].disown()
        return 0


class List(DoitList):  # type: ignore[misc]
    """`doit list`: with `--status`, a step that follows a stale one is shown as one that will run.

    To doit itself a step has no `file_dep`, which it would look at one by one: the key knows. `--deps` shows them.
    """

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with reading():
            return super().execute(params, args) or 0

    def _print_task(self, template: str, task: Any, status: bool, list_deps: bool, tasks: Mapping[str, Any]) -> None:
        below = [STEPS.get(name) for name in task.task_dep] if status and task.has_subtask else []
        if below and all(step and step.is_settled() for step in below):  # doit has no status for groups
            self.outstream.write(template.format(name=task.name, doc=task.doc, status="U"))
            return
        step = STEPS.get(task.name)
        super()._print_task(template, task, status, list_deps and step is None, tasks)
        if list_deps and step:
            self.outstream.writelines(f" -  {path}\n" for path in step.depends_on())
            self.outstream.write("\n")


class Info(DoitInfo):  # type: ignore[misc]
    """`doit info`: says why a step is not up to date."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with reading():
            return super().execute(params, args) or 0

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        names = {task.name for task in self.task_list}
        if len(pos_args) == 1 and pos_args[0] not in names:
            raise InvalidCommand(not_found=pos_args[0])
        code: int = super()._execute(pos_args, hide_status) or 0
        if pos_args and pos_args[0] in STEPS:
            self.outstream.write("\nreads      : \n")
            self.outstream.writelines(f" - {path}\n" for path in STEPS[pos_args[0]].depends_on())
        return code

    @staticmethod
    def get_reasons(reasons: Any) -> str:
        """Doit's lines; of a step, its reasons and not the object that knows them."""
        steps = [utd for utd, _, _ in reasons.get("uptodate_false", ()) if isinstance(utd, Current)]
        if not steps:
            return str(DoitInfo.get_reasons(reasons))
        return "\n".join(f" * {line}" for current in steps for line in str(current).split("; "))

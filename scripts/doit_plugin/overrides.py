"""doit's own commands, where Ingot adds to them: an honest exit code, an orderly end, a clean that leaves no litter.

The entry points of all commands lead here; those that only Ingot has are in `own_commands`.
"""

from __future__ import annotations

import functools
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
from scripts.common.process import StoppedBuildError, end_all, give_signals_back, take_signals
from scripts.doit_plugin.commands import Accept, Check, Gate, Gc, SessionCommand, Why, reading
from scripts.doit_plugin.tasks import UpToDate
from scripts.engine import publish
from scripts.engine.step import Step

__all__ = ["Accept", "Check", "Clean", "Forget", "Gate", "Gc", "Info", "List", "Run", "Why"]

_TIDY_SECONDS = 5.0


class Run(SessionCommand, DoitRun):  # type: ignore[misc]
    """`doit run`: exits 1 where a step failed, 130 where it was stopped; children never outlive it."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        take_signals()
        try:
            code = super().execute(params, args)
            give_signals_back()  # in here: one that comes between is still met
        except KeyboardInterrupt as stopped:
            from scripts.engine import execute

            end_all()
            if self.loader.namespace is not None:  # else it was stopped before there was a session
                execute.wait_for_running(self.session, _TIDY_SECONDS)
            if isinstance(stopped, StoppedBuildError) and str(stopped):
                print(stopped, file=sys.stderr)
                return 1
            print("\nstopped; what was finished is kept, `doit` goes on from here", file=sys.stderr)
            return 130
        return code or int(bool(self.session.failed))

    @functools.wraps(DoitRun._execute)  # doit passes what the signature names
    def _execute(self, *args: Any, **options: Any) -> int:
        self.session.begin(force_all=bool(options["always"]))
        code: int = super()._execute(*args, **options) or 0
        return code


class Clean(SessionCommand, DoitClean):  # type: ignore[misc]
    """`doit clean`: without a task it also removes logs, store and locks, so that nothing of a build is left."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        code = super().execute(params, args)
        if not args and not params["dryrun"]:
            from scripts.engine import tree

            for name in ("logs", "store", ".locks", publish.WORK):
                tree.remove(str(self.session.build / name), self.session.digests)
        return code

    def clean_tasks(self, tasks: list[Any], dryrun: bool, cleanforget: bool) -> None:
        """Doit calls this with the tasks in order, those that need others first."""
        from scripts.engine.clean import clean

        steps = self.session.steps
        for task in tasks:
            if task.name in steps:
                try:
                    clean(self.session, steps[task.name], dryrun)
                except IngotError as error:
                    raise InvalidCommand(str(error)) from None
        super().clean_tasks([task for task in tasks if task.name not in steps], dryrun, cleanforget)


class Forget(SessionCommand, DoitForget):  # type: ignore[misc]
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
            if name in self.session.steps:
                self.session.status.invalidate(self.session.steps[name])
        return 0


class List(SessionCommand, DoitList):  # type: ignore[misc]
    """`doit list`: with `--status`, a step that follows a stale one is shown as one that will run.

    To doit itself a step has no `file_dep`, which it would look at one by one: the key knows. `--deps` shows them.
    """

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with reading():
            return super().execute(params, args)

    def _print_task(self, template: str, task: Any, status: bool, list_deps: bool, tasks: Mapping[str, Any]) -> None:
        steps, is_current = self.session.steps, self.session.status.is_current
        below = [steps.get(name) for name in task.task_dep] if status and task.has_subtask else []
        if below and all(step and is_current(step) for step in below):  # doit has no status for groups
            self.outstream.write(template.format(name=task.name, doc=task.doc, status="U"))
            return
        step = steps.get(task.name)
        super()._print_task(template, task, status, list_deps and step is None, tasks)
        if list_deps and step:
            self.outstream.writelines(f" -  {path}\n" for path in _depends_on(step))
            self.outstream.write("\n")


class Info(SessionCommand, DoitInfo):  # type: ignore[misc]
    """`doit info`: says why a step is not up to date."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with reading():
            return super().execute(params, args)

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        names = {task.name for task in self.task_list}
        if len(pos_args) == 1 and pos_args[0] not in names:
            raise InvalidCommand(not_found=pos_args[0])
        code: int = super()._execute(pos_args, hide_status) or 0
        if pos_args and pos_args[0] in self.session.steps:
            self.outstream.write("\nreads      : \n")
            self.outstream.writelines(f" - {path}\n" for path in _depends_on(self.session.steps[pos_args[0]]))
        return code

    @staticmethod
    def get_reasons(reasons: Any) -> str:
        """Doit's lines; of a step, its reasons and not the object that knows them."""
        steps = [utd for utd, _, _ in reasons.get("uptodate_false", ()) if isinstance(utd, UpToDate)]
        if not steps:
            return str(DoitInfo.get_reasons(reasons))
        return "\n".join(f" * {line}" for current in steps for line in str(current).split("; "))


def _depends_on(step: Step) -> list[str]:
    """The files and folders that it reads, for people: an artifact by its manifest, the user's own by path."""
    return list(dict.fromkeys(read.item.target if isinstance(read.item, Step) else str(read.item)
                              for read in step.read))  # fmt: skip

"""doit's own commands, where Ingot adds to them, such as a clean that leaves no litter.

The names of commands in pyproject.toml lead here; `run` is in `running`, those that only Ingot has are in `commands`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from doit.cmd_base import check_tasks_exist, subtasks_iter
from doit.cmd_clean import Clean as DoitClean
from doit.cmd_completion import TabCompletion as DoitTabCompletion
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_resetdep import ResetDep as DoitResetDep
from doit.cmd_strace import Strace as DoitStrace
from doit.exceptions import InvalidCommand

from scripts.common import terminal
from scripts.common.errors import IngotError
from scripts.doit_plugin.commands import Accept, Check, Families, Gate, Gc, Init, SessionCommand, Why, reading
from scripts.doit_plugin.running import Run
from scripts.doit_plugin.tasks import UpToDate
from scripts.doit_plugin.usage import reworded, unknown_task
from scripts.engine import publish

__all__ = [
    "Accept", "Check", "Clean", "DumpDB", "Families", "Forget", "Gate", "Gc", "Ignore", "Info", "Init", "List",
    "ResetDep", "Run", "Strace", "TabCompletion", "Why",
]  # fmt: skip


class Clean(SessionCommand, DoitClean):  # type: ignore[misc]
    """`doit clean`: without a task it also removes logs, store and locks, so that nothing of a build is left."""

    doc_purpose = "remove what was built, also what is deployed"
    doc_description = "Without a task: everything. With one: what it made, and nothing that it needed."
    cmd_options = reworded(
        DoitClean.cmd_options,
        dryrun="say what would be removed, and remove nothing",
        cleandep="also what these tasks need",
        cleanall="what any task made",
        cleanforget="also what doit remembers of plain tasks",
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        code = super().execute(params, args)
        if not args and not params["dryrun"]:
            from scripts.engine import tree

            for name in ("logs", "store", ".fetched", ".locks", publish.WORK):
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

    doc_purpose = "have tasks built again, and not restored from the store"
    doc_description = "Without a task: those that plain `doit` names. What was built stays until then."
    cmd_options = reworded(
        DoitForget.cmd_options,
        forget_sub="also what these tasks need",
        forget_disable_default="without a task: none",
        forget_all="all tasks",
    )
    sel_tasks: list[str] | None

    # Private to doit: only here are the selected tasks known, and doit's own part not begun yet, which forgets its
    # records alone and ends in a traceback where there are no default tasks.
    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> int:
        tasks = {task.name: task for task in self.task_list}
        if forget_all:
            names = list(tasks)
        else:
            # Without default tasks `doit` runs all.
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
    """`doit list`: with `--status`, a step that follows a stale one is shown as one that will run."""

    doc_purpose = "the tasks; with --all, of each model, with --status, whether up to date"
    cmd_options = reworded(
        DoitList.cmd_options,
        subtasks="also the tasks of each model and precision",
        quiet="names alone",
        status="R: will run, U: up to date, I: ignored (doit ignore)",
        private="also tasks whose name starts with _",
        list_deps="also the files that each reads",
        template="how to print each: '{name} {doc} {status}'",
        sort="by name, or in the order of dodo.py, which is that of the data [default]",
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with reading():
            return super().execute(params, args)

    # Private to doit: it makes the template of a line in there, and asks nothing before it prints.
    @functools.wraps(DoitList._execute)  # doit passes what the signature names
    def _execute(self, *args: Any, **options: Any) -> int:
        self._columns, self._told = terminal.columns(self.outstream), set[str]()
        code: int = super()._execute(*args, **options) or 0
        return code

    def _wrapped(self, template: str, task: Any) -> str:
        """doit's template of a line, for a terminal: a doc is told once a group, and wraps beside the name."""
        self._told.add(task.name)
        doc = "" if task.subtask_of in self._told else (task.doc or "").replace("{", "{{").replace("}", "}}")
        before = template.removesuffix("{doc}")
        start = len(before.format(name="", status="U"))
        return before + ("\n" + " " * start).join(terminal.wrapped(doc, self._columns - start)) + "\n"

    # Private to doit: the only place that knows the task of a line; doit's own has no status for groups.
    def _print_task(self, template: str, task: Any, status: bool, list_deps: bool, tasks: Mapping[str, Any]) -> None:
        steps, is_current = self.session.steps, self.session.status.is_current
        below = [steps.get(name) for name in task.task_dep] if status and task.has_subtask else []
        if self._columns and template.endswith("{doc}\n"):
            template = self._wrapped(template[:-1], task)
        if below and all(step and is_current(step) for step in below):
            self.outstream.write(template.format(name=task.name, doc=task.doc, status="U"))
            return
        super()._print_task(template, task, status, list_deps, tasks)


class Info(SessionCommand, DoitInfo):  # type: ignore[misc]
    """`doit info`: says why a step is not up to date."""

    doc_purpose = "what a task reads and makes, and why it is not up to date"
    doc_description = "Exits 1 where it is not up to date."
    cmd_options = reworded(DoitInfo.cmd_options, hide_status="not whether it is up to date")

    def check_names(self, tasks: Sequence[Any], names: Sequence[str]) -> None:
        """One task by its name: no more, and no pattern, which doit would answer with a traceback."""
        super().check_names(tasks, names)
        if len(names) != 1:
            raise InvalidCommand(f"doit info: expected the name of one task, found {len(names)}. See: doit list --all")
        known = {task.name: task for task in tasks}
        if names[0] not in known:
            raise unknown_task(names[0], known)

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with reading():
            return super().execute(params, args)

    @staticmethod
    def get_reasons(reasons: Any) -> str:
        """Doit's lines; of a step, its reasons and not the object that knows them."""
        steps = [utd for utd, _, _ in reasons.get("uptodate_false", ()) if isinstance(utd, UpToDate)]
        if not steps:
            return str(DoitInfo.get_reasons(reasons))
        lines = "\n".join(f" * {line}" for current in steps for line in str(current).split("; "))
        return terminal.fitted(lines, terminal.columns(sys.stdout))


class Ignore(SessionCommand, DoitIgnore):  # type: ignore[misc]
    """`doit ignore`."""

    doc_purpose = "leave tasks out of every run, until `doit forget`"


class ResetDep(SessionCommand, DoitResetDep):  # type: ignore[misc]
    """`doit reset-dep`."""

    doc_purpose = "take the files of plain tasks for up to date"
    doc_description = "Of a step the key decides: this changes nothing there."


class Strace(SessionCommand, DoitStrace):  # type: ignore[misc]
    """`doit strace`."""

    doc_purpose = "show which files a plain task reads and writes"
    doc_description = "Of tasks that are commands of the shell alone; needs strace."


class TabCompletion(SessionCommand, DoitTabCompletion):  # type: ignore[misc]
    """`doit tabcompletion`."""

    doc_purpose = "print a script that completes words in your shell"
    names_tasks = False


class DumpDB(SessionCommand):
    """`doit dumpdb`: doit's own would open a file of dbm."""

    doc_purpose = "say where doit keeps what it knows"
    names_tasks = False

    def _execute(self) -> int:
        print(f"{self.session.build / 'state.db'}: a database of SQLite; doit why and doit info tell what it means")
        return 0

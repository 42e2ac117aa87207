"""`doit help`, which is also what `doit --help` comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.cmd_help import Help as DoitHelp

from scripts.doit_plugin.manual import of_task, overview
from scripts.doit_plugin.usage import Usage, end_with_reader, unknown_task


class Help(Usage, DoitHelp):  # type: ignore[misc]
    """`doit help`, `doit help COMMAND`, `doit help TASK`."""

    doc_purpose = "what there is; of a command or task, what it does"
    doc_usage = "[COMMAND | TASK]"
    names_tasks = False
    task_list: Sequence[Any] = ()

    def print_usage(self, cmds: Mapping[str, Any]) -> None:
        """Doit calls this for `doit --help`, with all commands by name."""
        print(overview(cmds))

    def execute(self, params: Any, args: Sequence[str]) -> int:
        """Doit calls this with the parsed command line."""
        end_with_reader()
        if not args:
            self.print_usage(self.cmds)
        elif all(name in self.cmds or name == "task" for name in args):
            self._execute(args)
        else:
            return int(DoitCmdBase.execute(self, params, list(args)) or 0)
        return 0

    def _execute(self, pos_args: Sequence[str]) -> int:
        tasks = {task.name: task for task in self.task_list}
        for number, name in enumerate(pos_args):
            if number:
                print()
            if name in self.cmds:
                print(self.cmds[name](cmds=self._cmds, **self.init_kwargs).help())
            elif name in tasks:
                below = [tasks[sub] for sub in tasks[name].task_dep if tasks[sub].subtask_of == name]
                print(of_task(tasks[name], below))
            elif name == "task":
                self.print_task_help()
            else:
                raise unknown_task(name, tasks, self.cmds)
        return 0

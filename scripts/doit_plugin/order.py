"""In which order doit runs steps that could run: what measures comes last.

A step that measures runs alone. Where it starts as soon as it can, the others wait for it and it for them, one after
the other, and all cores but its own idle; so it is held back until no other task is ready or running. What is left
then needs a measurement, or needs nothing that will run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from doit.cmd_base import subtasks_iter
from doit.control import ExecNode, TaskDispatcher

from scripts.doit_plugin.commands import SessionCommand


class Dispatcher(TaskDispatcher):  # type: ignore[misc]
    """doit's own, but that tasks which measure are handed out last, and one at a time."""

    def __init__(self, tasks: dict[str, Any], targets: Any, selected: list[str], alone: Iterable[str]) -> None:
        """`alone`: the names of the tasks that measure."""
        self._alone = frozenset(alone)
        self._held = deque[ExecNode]()
        self._handed_out: list[ExecNode] = []
        super().__init__(tasks, targets, selected)

    # Private to doit: what makes a node step by step, and what chooses the next one.
    def _add_task(self, node: ExecNode) -> Iterator[Any]:
        for made in super()._add_task(node):
            if made is node.task:
                if node.task.name in self._alone and node.run_status is None:
                    self._held.append(node)
                    yield "wait"
                self._handed_out.append(node)
            yield made

    def _get_next_node(self, ready: deque[ExecNode], tasks_to_run: list[str]) -> ExecNode | None:
        found = super()._get_next_node(ready, tasks_to_run)
        if found is None and self._held and not self._any_runs():
            found = self._held.popleft()
            self.waiting.remove(found)
        return found

    def _any_runs(self) -> bool:
        """Whether a task is running; one that waits for what sets it up has doit's state of one that is."""
        self._handed_out = [one for one in self._handed_out if one.run_status == "run" and one not in self.waiting]
        return bool(self._handed_out)


class MeasuringLast(SessionCommand):
    """A command that runs tasks in this order."""

    #: Whether what is to run was named on the command line.
    asked_by_name = False

    # Private to doit: its command keeps here what makes the dispatcher, and takes a class of ours nowhere.
    @property
    def control(self) -> Any:
        """What knows the tasks, and which of them are asked for."""
        return self._control

    @control.setter
    def control(self, control: Any) -> None:
        control.task_dispatcher = lambda: self._dispatcher(control)
        process = control.process

        def process_once(names: Any) -> None:  # for --single doit 0.37 does it twice, and loses all but the first name
            if control.selected_tasks is None:
                process(names)

        control.process = process_once
        self._control = control

    def _dispatcher(self, control: Any) -> Dispatcher:
        tasks, selected = control.tasks, control.selected_tasks
        if self.asked_by_name:
            subtasks = (sub.name for name in selected for sub in subtasks_iter(tasks, tasks[name]))
            self.session.named = frozenset((*selected, *subtasks))
        alone = [step.name for step in self.session.steps.values() if step.alone]
        return Dispatcher(tasks, control.targets, selected, alone)

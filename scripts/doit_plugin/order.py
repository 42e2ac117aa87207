"""In which order doit runs steps that could run: what measures comes last.

A step that measures runs alone. Where it starts as soon as it can, the others wait for it and it for them, one after
the other, and all cores but its own idle; so it is held back until nothing is left that could run beside another step.
What needs a measurement does not count, or nothing would ever run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from doit.cmd_base import subtasks_iter
from doit.control import ExecNode, TaskDispatcher

from scripts.doit_plugin.commands import SessionCommand

_UNDECIDED = (None, "run")  # doit's states of what still waits, or runs


class Dispatcher(TaskDispatcher):  # type: ignore[misc]
    """doit's own, but that tasks which measure are handed out last, and one at a time."""

    def __init__(self, tasks: dict[str, Any], targets: Any, selected: list[str], alone: Iterable[str]) -> None:
        """`alone`: the names of the tasks that measure."""
        self._alone = frozenset(alone)
        self._left = _below(tasks, selected)
        self._left -= _above(tasks, self._left, self._alone)
        self._held: list[ExecNode] = []
        super().__init__(tasks, targets, selected)

    # Private to doit: what makes a node step by step, and what is told of each that was dealt with.
    def _add_task(self, node: ExecNode) -> Iterator[Any]:
        name = node.task.name
        for made in super()._add_task(node):
            if name in self._alone and made is node.task and node.run_status is None:
                self._held.append(node)
                while not self._may_measure(node):
                    yield "wait"
                self._held.remove(node)
            yield made

    def _update_waiting(self, processed: ExecNode | None) -> None:
        super()._update_waiting(processed)
        if processed is not None and processed.run_status not in _UNDECIDED:
            self._left.discard(processed.task.name)
        for node in self._held[:1]:
            if node in self.waiting and self._may_measure(node):
                self.waiting.remove(node)
                self.ready.append(node)

    def _may_measure(self, node: ExecNode) -> bool:
        """Nothing else is left but what measures, none of which runs; of these, the one held for longest is next."""
        others = (self.nodes.get(name) for name in self._alone)
        return not self._left and node is self._held[0] and not any(o and o.run_status == "run" for o in others)


def _needs(task: Any) -> list[str]:
    return [*task.task_dep, *task.setup_tasks, *task.calc_dep]


def _below(tasks: dict[str, Any], names: Iterable[str]) -> set[str]:
    """These tasks and all that they need, but for plain tasks that are made while others run."""
    found, pending = set[str](), list(names)
    while pending:
        name = pending.pop()
        if name in tasks and name not in found and not tasks[name].loader:  # made late, or never
            found.add(name)
            pending += _needs(tasks[name])
    return found


def _above(tasks: dict[str, Any], among: Collection[str], names: Collection[str]) -> set[str]:
    """Those `among` the tasks that are named, or need one that is."""
    needed_by = dict[str, list[str]]()
    for name in among:
        for needed in _needs(tasks[name]):
            needed_by.setdefault(needed, []).append(name)
    found, pending = set[str](), [name for name in names if name in among]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += needed_by.get(name, ())
    return found


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

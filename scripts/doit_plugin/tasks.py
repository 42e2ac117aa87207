"""Steps as doit knows tasks: what `dodo.py` declares becomes groups of tasks, each asked whether it is current."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from doit.action import BaseAction
from doit.exceptions import TaskError

from scripts.engine.step import Step

S = TypeVar("S")


class StepsOf(Generic[S]):
    """A task group of doit: one function, called once for each subject."""

    def __init__(self, function: Callable[[S], Step], subjects: Iterable[S]) -> None:
        self._make: Callable[[S], Step] = functools.cache(function)
        self._subjects = tuple(subjects)
        self._name, self._doc = function.__name__.replace("_", "-"), (function.__doc__ or "").strip()

        @functools.wraps(function)  # doit orders tasks by the line on which the wrapped function stands
        def create() -> Iterator[dict[str, Any]]:
            yield from self._tasks()

        self.create_doit_tasks = create

    def __call__(self, subject: S) -> Step:
        """The step of one subject."""
        return self._make(subject)

    def _tasks(self) -> Iterator[dict[str, Any]]:
        yield {"basename": self._name, "name": None, "doc": self._doc}
        for subject in self._subjects:
            yield task(self(subject), self._doc)


def once(function: Callable[[], Step]) -> Callable[[], Step]:
    """A function that makes one step, as the task of its name."""
    made = functools.cache(function)
    doc = (function.__doc__ or "").strip()
    made.create_doit_tasks = functools.wraps(function)(lambda: task(made(), doc))  # type: ignore[attr-defined]
    return made


class Current:
    """Whether a step is current, as a value and not as a function: doit would look up its signature each time."""

    __slots__ = ("_step",)

    def __init__(self, step: Step) -> None:
        self._step = step

    def __bool__(self) -> bool:
        step = self._step
        if step.engine.force_all:
            return False
        return step.is_settled() if step.engine.looks_ahead else not step.look().reasons

    def __repr__(self) -> str:
        return "; ".join(map(str, self._step.look().reasons)) or "follows what is not up to date"


class Action(BaseAction):  # type: ignore[misc]
    """What doit runs for a step."""

    def __init__(self, step: Step) -> None:
        self.step, self.task = step, None
        self.out = self.err = self.result = None
        self.values: dict[str, Any] = {}

    def execute(self, out: object = None, err: object = None) -> TaskError | None:
        """Doit calls this; an error is a bug of Ingot's, since a step's own failure is noted and not raised."""
        from scripts.engine import execute  # only when something runs

        del out, err
        try:
            execute.execute(self.step)
        except Exception as error:  # noqa: BLE001  (shown with its traceback, and the build exits 2)
            return TaskError(f"{self.step.name}: Ingot itself failed", error)
        return None

    def __repr__(self) -> str:
        return f"<build {self.step.name}>"


def task(step: Step, doc: str) -> dict[str, Any]:
    """A step as doit knows tasks."""
    basename, _, name = step.name.partition(":")
    return {
        "basename": basename, **({"name": name} if name else {}), "doc": doc,
        "actions": [Action(step)],
        "task_dep": [upstream.name for upstream in step.upstream],  # of files, the key knows
        "targets": [step.target] if step.is_result else [str(step.output), step.target],
        "uptodate": [(Current(step),)],
        "io": {"capture": False}, "verbosity": 2,
    }  # fmt: skip

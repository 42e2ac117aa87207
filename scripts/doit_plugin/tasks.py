"""Steps as doit knows tasks: what `dodo.py` declares becomes groups of tasks, each asked whether it is current."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from doit.action import BaseAction
from doit.exceptions import TaskError

from scripts.doit_plugin.dependency import Checker, Records, StepFile
from scripts.doit_plugin.reporter import Reporter
from scripts.engine.session import Session
from scripts.engine.step import Step

S = TypeVar("S")


class Tasks:
    """How `dodo.py` hands the steps of a session to doit.

    `broken` names the steps that fail by what is wrong with their model's settings. Who asks for a group of tasks gets
    these as well, since nothing else is there of such a model.
    """

    def __init__(self, session: Session, broken: Iterable[str] = ()) -> None:
        self._session, self._broken = session, list(broken)
        self._declared: dict[str, Callable[[], Sequence[Step]]] = {}

    def config(self, **more: Any) -> dict[str, Any]:
        """The DOIT_CONFIG with which doit's commands, checker, backend and reporter all serve this session."""
        session = self._session
        return {
            "session": session,  # for the commands, see `scripts.doit_plugin.commands.session_of`
            "steps_of": self.steps_of,
            "check_file_uptodate": lambda: Checker(session), "reporter": Reporter(session),
            # A backend can only be named; what doit hands it as it is, is the codec.
            "backend": "ingot", "codec_cls": lambda: Records(session), "dep_file": str(session.build / "state.db"),
            "par_type": "thread", "verbosity": 2, **more,
        }  # fmt: skip

    def each(self, subjects: Iterable[S], *, needs: str = "") -> Callable[[Callable[[S], Step]], StepsOf[S]]:
        """Decorator: a function from one subject to its step becomes the task group of that function's name.

        `needs` says, where there may be no subject, what makes one: for whoever asks doit for the group all the same.
        """

        def make(function: Callable[[S], Step]) -> StepsOf[S]:
            made = StepsOf(self._session, function, subjects, needs, self._broken)
            if not self._broken:  # those belong to each group
                self._declared[made.name] = made.steps
            return made

        return make

    def once(self, function: Callable[[], Step]) -> Callable[[], Step]:
        """Decorator: a function that makes one step becomes the task of its name."""
        made = functools.cache(function)
        doc = (function.__doc__ or "").strip()
        create = functools.wraps(function)(lambda: task(self._session, made(), doc))
        made.create_doit_tasks = create  # type: ignore[attr-defined]
        self._declared[_name(function)] = lambda: [made()]
        return made

    def steps_of(self, names: Iterable[str]) -> list[Step] | None:
        """The steps of these tasks and groups, without making any task; None where one is of another kind."""
        found = list[Step]()
        for name in names:
            if name in self._declared:
                found += self._declared[name]()
            elif name in self._session.steps:
                found.append(self._session.steps[name])
            else:
                return None
        return found


class StepsOf(Generic[S]):
    """A task group of doit: one function, called once for each subject."""

    def __init__(
        self, session: Session, function: Callable[[S], Step], subjects: Iterable[S], needs: str, broken: list[str]
    ) -> None:
        self._session, self._broken = session, broken
        self._make: Callable[[S], Step] = functools.cache(function)
        self._subjects, self._needs = tuple(subjects), needs
        self.name, self._doc = _name(function), (function.__doc__ or "").strip()

        @functools.wraps(function)  # doit orders tasks by the line on which the wrapped function begins
        def create() -> Iterator[dict[str, Any]]:
            yield from self._tasks()

        self.create_doit_tasks = create

    def __call__(self, subject: S) -> Step:
        """The step of one subject."""
        return self._make(subject)

    def steps(self) -> list[Step]:
        """The steps of all subjects."""
        return [self(subject) for subject in self._subjects]

    def _tasks(self) -> Iterator[dict[str, Any]]:
        yield {"basename": self.name, "name": None, "doc": self._doc, "meta": {"needs": self._needs},
               "task_dep": self._broken}  # fmt: skip
        for subject in self._subjects:
            yield task(self._session, self(subject), self._doc)


class UpToDate:
    """Whether a step is up to date, as a value and not as a function: doit would find out its signature each time."""

    __slots__ = ("_session", "_step")

    def __init__(self, session: Session, step: Step) -> None:
        self._session, self._step = session, step

    def __bool__(self) -> bool:
        return self._session.is_up_to_date(self._step)

    def __repr__(self) -> str:
        reasons = self._session.status.of(self._step).reasons
        return "; ".join(map(str, reasons)) or "follows what is not up to date"


class Action(BaseAction):  # type: ignore[misc]
    """What doit runs for a step."""

    def __init__(self, session: Session, step: Step) -> None:
        self.session, self.step, self.task = session, step, None
        self.out = self.err = self.result = None
        self.values: dict[str, Any] = {}

    def execute(self, out: object = None, err: object = None) -> TaskError | None:
        """Doit calls this; an error is a bug of Ingot's, since a step's own failure is noted and not raised."""
        from scripts.engine import execute  # only when something runs

        del out, err
        gc.enable()  # off while tasks are made and found up to date, see `SessionCommand`; what runs leaves garbage
        try:
            execute.execute(self.session, self.step)
        except Exception as error:  # noqa: BLE001  (shown with its traceback, and the build exits 2)
            return TaskError(f"{self.step.name}: Ingot itself failed", error)
        return None

    def __repr__(self) -> str:
        return f"<build {self.step.name}>"


def _name(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", "-")


def task(session: Session, step: Step, doc: str) -> dict[str, Any]:
    """A step as doit knows tasks."""
    basename, _, name = step.name.partition(":")
    return {
        "basename": basename, **({"name": name} if name else {}), "doc": doc,
        "actions": [Action(session, step)],
        "file_dep": [StepFile(path) for path in step.files_read()],
        # doit finds these by the files, but in an order of its own that differs from run to run.
        "task_dep": [upstream.name for upstream in step.upstream],
        "targets": [StepFile(path) for path in ([] if step.is_result else [str(step.output)]) + [step.target]],
        "uptodate": [(UpToDate(session, step),)],
        "io": {"capture": False}, "verbosity": 2,
        **({"params": [{"name": form, "long": form, "type": bool, "default": False, "help": f"and say where {file} is"}
                       for form, file in step.forms.items()]} if step.forms else {}),
    }  # fmt: skip

"""The engine of one build folder: what steps share, and how they are declared to doit."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from scripts.engine import build, publish
from scripts.engine.digests import Digests
from scripts.engine.machine import temporary
from scripts.engine.progress import Progress
from scripts.engine.run import Limits
from scripts.engine.sources import Sources
from scripts.engine.state import State
from scripts.engine.step import Step, World

S = TypeVar("S")

#: For the doit hooks: the engines of this process, and its steps by task name.
ENGINES: list[Engine] = []
STEPS: dict[str, Step] = {}

#: No stage may call home, whatever its libraries would like to do; only the checkpoint stage may fetch weights.
_QUIET = {
    "OLIVE_DISABLE_TELEMETRY": "1", "ORT_TELEMETRY_DISABLED": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0",
}  # fmt: skip
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Engine:
    """Opens `build/state.db`; makes steps; lends locks, digests, sources and progress to them."""

    #: `doit -a`: steps run although they are current.
    force_all = False

    def __init__(self, folder: Path, *, package: str = "scripts", online_stages: Sequence[str] = ()) -> None:
        self.package = package
        self.build = folder.absolute()
        self.state = State(self.build / "state.db")
        self.digests = Digests(self.state)
        self.sources = Sources(self.state, package)
        self.progress = Progress()
        self.failed: list[str] = []
        self._online = set(online_stages)
        self._started = threading.Lock()
        self._swept = False
        rows = self.state.rows("select step, value from receipts")
        self.receipts: dict[str, Any] = {step: json.loads(value) for step, value in rows}
        ENGINES.append(self)

    def step(
        self, name: str, output: Path, *, stage: str, verb: str, inputs: Mapping[str, Any], tools: Sequence[str],
        parameters: Mapping[str, Any] | None = None, verdicts: Mapping[str, Any] | None = None,
        observed: Mapping[str, Any] | None = None, scratch: Mapping[str, Any] | None = None,
        world: World | None = None, alone: bool = False, limits: Limits | None = None,
        undo: Callable[[Mapping[str, Any]], Sequence[str]] | None = None, shows: str | None = None,
        reads: Iterable[Step] = (),
    ) -> Step:  # fmt: skip
        """Declare `python -m scripts.<stage> <verb>`, whose flags are the names below.

        inputs      steps (their output is passed; where one stopped, this one is skipped) or the user's own paths;
                    a tuple repeats the flag, None leaves it out
        verdicts    steps that may have stopped: then their marker is passed, which has the form of a result
        parameters  text, passed as it is, or anything else, passed as JSON
        observed    what the result depends on without being told, such as the machine; in the key alone
        scratch     what can't change the result, such as a folder for downloads; on the command line alone
        tools       the distributions whose versions can change the result
        world       for a result that claims something of the world outside `build/`
        alone       it measures: nothing else of Ingot may run meanwhile, on the whole machine
        undo        for `doit clean`: a command that takes back what the result did outside `build/`
        reads       steps whose outputs it finds by itself, below a scratch folder; they may have stopped
        shows       a text file in the output folder that is printed at the end of a run
        """
        made = Step(
            self, name, stage, verb, output, inputs, verdicts or {}, parameters or {}, observed or {}, tools,
            scratch or {}, world, alone, limits or Limits(), undo, shows, tuple(reads),
        )  # fmt: skip
        STEPS[name] = made
        return made

    def each(self, subjects: Iterable[S]) -> Callable[[Callable[[S], Step]], StepsOf[S]]:
        """Decorator: a function from one subject to its step becomes the task group of that function's name."""
        return lambda function: StepsOf(function, tuple(subjects))

    @staticmethod
    def once(function: Callable[[], Step]) -> Callable[[], Step]:
        """Decorator: a function that makes one step becomes the task of its name."""
        made = functools.cache(function)
        doc = (function.__doc__ or "").strip()
        made.create_doit_tasks = functools.wraps(function)(lambda: task(made(), doc))  # type: ignore[attr-defined]
        return made

    def start(self) -> None:
        """Before the first step that runs: sweep what dead builds left."""
        with self._started:
            if not self._swept:
                self._swept = True
                for name in publish.sweep(self.build):
                    self.progress.note(f"swept what a dead build left: {name}")

    @contextlib.contextmanager
    def turn(self, step: Step) -> Iterator[None]:
        """Steps that measure run alone, whatever `-n`, also across builds on this machine; others run together."""
        from filelock import ReadWriteLock  # only when something runs

        lock = ReadWriteLock(temporary("measuring.lock"), is_singleton=False)
        with lock.write_lock() if step.alone else lock.read_lock():
            yield

    def environment(self, stage: str) -> dict[str, str]:
        """Environment variables for a child of `stage`."""
        return _QUIET if stage in self._online else _QUIET | _OFFLINE

    def keep_receipt(self, name: str, value: Mapping[str, Any]) -> None:
        """Note that a step was seen whole."""
        self.receipts[name] = json.loads(text := json.dumps(value))
        self.state.rows("insert or replace into receipts values (?, ?)", name, text)

    def drop_receipt(self, name: str) -> None:
        """Forget that a step was seen whole."""
        self.receipts.pop(name, None)
        self.state.rows("delete from receipts where step = ?", name)

    def keep_cost(self, name: str, seconds: float, peak_rss: int) -> None:
        """Note what a step cost: wall seconds and peak resident bytes of its process tree."""
        self.state.rows("insert or replace into costs values (?, ?, ?)", name, seconds, peak_rss)


class StepsOf(Generic[S]):
    """A task group of doit: one function, called once for each subject."""

    def __init__(self, function: Callable[[S], Step], subjects: tuple[S, ...]) -> None:
        self._make: Callable[[S], Step] = functools.cache(function)
        self._subjects = subjects
        self._name, self._doc = function.__name__, (function.__doc__ or "").strip()

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


def task(step: Step, doc: str) -> dict[str, Any]:
    """A step as doit knows tasks."""
    basename, _, name = step.name.partition(":")
    return {
        "basename": basename, **({"name": name} if name else {}), "doc": doc,
        "actions": [(build.execute, [step])],
        "file_dep": [upstream.target for upstream in step.upstream()],
        "targets": [step.target] if step.is_result else [str(step.output), step.target],
        "uptodate": [step.is_current],
        "clean": [(build.clean, [step])],
        "io": {"capture": False}, "verbosity": 2,
    }  # fmt: skip

"""The engine of one build folder: what steps share, and how they are declared to doit."""

from __future__ import annotations

import atexit
import errno
import functools
import gc
import importlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from scripts.doit_plugin.tasks import StepsOf, once
from scripts.engine import manifest, publish
from scripts.engine.digests import Digests
from scripts.engine.process import Limits, StoppedBuildError
from scripts.engine.progress import Progress
from scripts.engine.sources import Sources
from scripts.engine.state import State
from scripts.engine.step import Step, World
from scripts.engine.store import Store

S = TypeVar("S")

#: For the doit hooks: the engines of this process, and its steps by task name.
ENGINES: list[Engine] = []
STEPS: dict[str, Step] = {}

#: No stage may call home, whatever its libraries would like to do; only the checkpoint stage may fetch weights.
_QUIET = {
    "OLIVE_DISABLE_TELEMETRY": "1", "ORT_TELEMETRY_DISABLED": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0",
    # Olive 0.13 sends one heartbeat in spite of its own switch, but none where it sees an automated pipeline.
    "TF_BUILD": "true",
    # Waiting OpenMP threads sleep: spinning ones made a step three times slower on a busy machine.
    "OMP_WAIT_POLICY": "passive",
}  # fmt: skip
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


# Thousands of tasks are made and none goes away: to look for garbage among them takes a tenth of a no-op.
gc.disable()
atexit.register(gc.freeze)  # nor when Python ends


class UserInput(NamedTuple):
    """A digest of a user's file or folder, by names and contents and never by place; of a folder, that of each file."""

    digest: str
    files: dict[str, str] | None


class Engine:
    """Opens `build/state.db`; makes steps; lends locks, digests, sources and progress to them."""

    #: `doit -a`: steps run although they are current.
    force_all = False
    #: For commands that run nothing: a step that follows a stale one is not up to date either.
    looks_ahead = False

    def __init__(
        self,
        folder: Path,
        *,
        package: str = "scripts",
        online_stages: Sequence[str] = (),
        home_stages: Sequence[str] = (),
    ) -> None:
        """`online_stages` may fetch from the network; they and `home_stages` see the user's home folder."""
        self.package = package
        self.build = folder.absolute()
        self.state = State(self.build / "state.db")
        self.digests = Digests(self.state)
        self.sources = Sources(self.state, package)
        self.store = Store(self.build, self.digests)
        self.progress = Progress()
        self.failed: list[str] = []
        self._online, self._at_home = set(online_stages), {*online_stages, *home_stages}
        self._started = threading.Lock()
        self._writable = False
        self._inputs: dict[str, UserInput] = {}
        ENGINES.append(self)

    def step(
        self, name: str, output: Path, *, stage: str, verb: str, inputs: Mapping[str, Any], tools: Sequence[str],
        parameters: Mapping[str, Any] | None = None, verdicts: Mapping[str, Any] | None = None,
        observed: Mapping[str, Any] | None = None, scratch: Mapping[str, Any] | None = None,
        world: World | None = None, alone: bool = False, limits: Limits | None = None,
        undo: Callable[[Mapping[str, Any]], Sequence[str]] | None = None, shows: str | None = None,
        reads: Iterable[Step] = (), stored: bool = True, optional: Iterable[Step] = (),
        preflight: Mapping[str, str] | None = None,
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
        optional    like reads, but of steps that this one does not ask for: what stands there counts, if anything does
        stored      whether earlier outputs are kept, to be restored; not what measures or claims something of the world
        shows       a text file in the output folder that is printed at the end of a run
        preflight   flag → "module:function", called with each path of the user's of that flag before it is read for
                    the first time: raises `IngotError` in milliseconds where to read gigabytes would be in vain
        """
        made = Step(
            self, name, stage, verb, output, inputs, verdicts or {}, parameters or {}, observed or {}, tools,
            scratch or {}, world, alone, limits or Limits(), undo, shows, tuple(reads), stored,
            tuple(optional), preflight or {},
        )  # fmt: skip
        STEPS[name] = made
        return made

    def each(self, subjects: Iterable[S]) -> Callable[[Callable[[S], Step]], StepsOf[S]]:
        """Decorator: a function from one subject to its step becomes the task group of that function's name."""
        return lambda function: StepsOf(function, subjects)

    @staticmethod
    def once(function: Callable[[], Step]) -> Callable[[], Step]:
        """Decorator: a function that makes one step becomes the task of its name."""
        return once(function)

    def start(self) -> None:
        """Before the first step that runs: see that the build can be written, and sweep what dead builds left.

        Raises `StoppedBuildError` where it can't.
        """
        gc.enable()
        with self._started:
            if not self._writable:
                try:
                    for folder in (self.build / publish.WORK, self.build / ".locks"):
                        folder.mkdir(parents=True, exist_ok=True)
                        if not os.access(folder, os.W_OK):
                            raise OSError(errno.EROFS, "can't be written", str(folder))
                except OSError as error:
                    raise StoppedBuildError(
                        f"{error.filename}: {error.strerror}: nothing can be built there. "
                        "Make it writable, or choose another folder: doit build=DIR"
                    ) from None
                self._writable = True
                self.sweep()

    def sweep(self) -> None:
        """Clear what dead builds left, if anything."""
        if os.path.isdir(self.build / publish.WORK):
            for name in publish.sweep(self.build, self.digests):
                self.progress.note(f"swept what a dead build left: {name}")

    def environment(self, stage: str, home: Path) -> dict[str, str]:
        """Environment variables for a child of `stage`; `home` is a folder that goes when the child does.

        onnxruntime and Olive write device ids and event logs below the home folder whatever they are told, so a
        stage gets a throw-away home unless the user's own is its business.
        """
        homeless = {} if stage in self._at_home else {"HOME": str(home), "USERPROFILE": str(home)}
        return _QUIET | homeless | ({} if stage in self._online else _OFFLINE)

    def user_input(self, path: str, preflight: str | None = None) -> UserInput:
        """The content of a file or folder of the user's, looked up once. Raises `OSError`, or what `preflight` does."""
        found = self._inputs.get(path)
        if found is None:
            if preflight and not self._has_been_read(path):
                module, _, function = preflight.partition(":")
                getattr(importlib.import_module(module), function)(Path(path))
            if os.path.isdir(path):
                files = manifest.scan(path, self.digests, of_user=True)
                digests = {name: str(file["blake3"]) for name, file in files.items()}
                found = UserInput(manifest.files_digest(files), digests)
            else:
                found = UserInput(self.digests.of(path), None)
            self._inputs[path] = found
        return found

    def _has_been_read(self, path: str) -> bool:
        found = [status for _, status in manifest.walk(path)] if os.path.isdir(path) else [os.stat(path)]
        return all(map(self.digests.knows, found))

    def forget_input(self, path: str) -> None:
        """It may have changed: look again when next asked."""
        self._inputs.pop(path, None)

    @functools.cached_property
    def _receipts(self) -> dict[str, str]:
        return self.state.all("receipt")

    def receipt(self, name: str) -> list[Any] | None:
        """[key, outcome, watch] of when a step was last seen whole."""
        text = self._receipts.get(name)
        return json.loads(text) if text else None

    def keep_receipt(self, name: str, value: list[Any]) -> None:
        """Note that a step was seen whole."""
        self._receipts[name] = text = json.dumps(value, separators=(",", ":"))
        self.state.put("receipt", name, text)

    def drop_receipt(self, name: str) -> None:
        """Forget that a step was seen whole."""
        self._receipts.pop(name, None)
        self.state.drop("receipt", name)

    def keep_cost(self, name: str, seconds: float, peak_rss: int) -> None:
        """Note what a step cost: wall seconds and peak resident bytes of its process tree."""
        self.state.put("cost", name, json.dumps([round(seconds, 3), peak_rss]))

    def cost(self, name: str) -> tuple[float, int] | None:
        """What a step cost when it last ran: wall seconds, peak resident bytes."""
        text = self.state.get("cost", name)
        if text is None:
            return None
        seconds, peak_rss = json.loads(text)
        return seconds, peak_rss

"""One run over one build folder: what its steps share, and the steps themselves by name."""

from __future__ import annotations

import errno
import functools
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scripts.common.errors import IngotError
from scripts.common.machine import usable_memory
from scripts.common.process import Limits, StoppedBuildError
from scripts.common.quiet import OFFLINE
from scripts.engine import publish
from scripts.engine.digests import Digests
from scripts.engine.environment import HOMES, environment_apart
from scripts.engine.progress import Progress
from scripts.engine.records import Records
from scripts.engine.removed import Removal
from scripts.engine.room import Room
from scripts.engine.sources import Sources
from scripts.engine.state import State
from scripts.engine.status import Status
from scripts.engine.step import ExternalState, Step, in_order
from scripts.engine.store import Store
from scripts.engine.user_files import Belongs, UserFiles

if TYPE_CHECKING:
    from scripts.engine.cluster import Cluster
    from scripts.engine.shared import Shared


class Place(NamedTuple):
    """The store of a team: its address, and whether what is built is put there."""

    url: str
    write: bool


class Session:
    """Opens `build/state.db`; declares steps; owns their status, digests, store and progress."""

    def __init__(
        self,
        folder: Path,
        *,
        package: str = "scripts",
        online_stages: Sequence[str] = (),
        home_stages: Sequence[str] = (),
        limits: Callable[[str], Limits] | None = None,
        shared: Place | None = None,
        cluster: str | None = None,
    ) -> None:
        """`online_stages` may fetch from the network; they and `home_stages` see the user's home folder.

        `limits` are those of a step by its name, asked for when it runs; `shared` is the store of a team, if any;
        `cluster` the address of a Dask scheduler whose workers build what they can, through that store.
        """
        self.package = package
        self.build = folder.absolute()
        self.state = State(self.build / "state.db")
        self.digests = Digests(self.state)
        self.records = Records(self.state)
        self.store = Store(self.build, self.digests)
        self.status = Status(
            self.digests, self.records, Sources(self.state, package), UserFiles(self.digests), self.store
        )
        self.progress = Progress()
        #: The memory that steps share which run at once.
        self.room = Room(usable_memory)
        self._place, self._scheduler = shared, cluster
        #: The steps by name, in the order of their declaration.
        self.steps: dict[str, Step] = {}
        #: Large files that go once nothing needs them any more; and by the name of each step that they concern.
        self.removals: list[Removal] = []
        self.removals_of: defaultdict[str, list[Removal]] = defaultdict(list)
        #: What became of each step that ran: "built in 1.2 s", "restored in 0.1 s", "fetched in 0.3 s", "kept",
        #: "failed: …", "skipped: …".
        self.ended: dict[str, str] = {}
        #: Steps run although they are current, and restore nothing (`doit -a`).
        self.force_all = False
        #: Steps that are asked for by name: they run also where what they only follow stopped.
        self.named: frozenset[str] = frozenset()
        #: Nothing will run, so a step that follows a stale one is not up to date either.
        self.looks_ahead = True
        #: No step can be built.
        self.stopped = False
        #: The threads that are at a step.
        self.busy: set[int] = set()
        self._limits = limits
        self._online, self._at_home = set(online_stages), {*online_stages, *home_stages}
        self._started = threading.Lock()
        self._writable = False

    def step(
        self, name: str, output: Path, *, stage: str, verb: str, inputs: Mapping[str, Any],
        loads: tuple[str, ...] | Callable[[], tuple[str, ...]] = (), tools: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
        verdicts: Mapping[str, Any] | None = None, observed: Mapping[str, Any] | None = None,
        scratch: Mapping[str, Any] | None = None,
        external_state: ExternalState | None = None, alone: bool = False, limits: Limits | None = None,
        undo: Callable[[Mapping[str, Any]], Sequence[str]] | None = None, shows: str | None = None,
        reads: Iterable[Step] = (), stored: bool = True, optional: Iterable[Step] = (),
        preflight: Mapping[str, str] | None = None, belongs: Mapping[str, Belongs] | None = None,
        guards: Mapping[str, Any] | None = None, problem: IngotError | None = None,
        follows: Iterable[Step] = (), dispensable: bool = False,
        parts: Mapping[str, tuple[str, ...]] | None = None, shared: bool = False,
        forms: Mapping[str, str] | None = None, resources: Mapping[str, float] | None = None,
        tools_of: Mapping[str, tuple[Step, ...]] | None = None, tied: bool = False,
    ) -> Step:  # fmt: skip
        """Declare a step; see `Step` for what the arguments mean."""
        made = Step(
            name, output, stage, verb, inputs, loads, tools, parameters or {}, verdicts or {}, observed or {},
            scratch or {}, external_state, alone, limits, undo, shows, tuple(reads), stored, tuple(optional),
            preflight or {}, belongs or {}, guards or {}, problem, tuple(follows), dispensable, parts or {}, shared,
            forms or {}, resources or {}, tools_of or {}, tied,
        )  # fmt: skip
        self.steps[name] = made
        return made

    def remove_files(self, steps: Iterable[Step], patterns: Sequence[str], *, after: Iterable[Step]) -> None:
        """Declare that files of these steps' outputs go once all of `after` are current; see `removed`."""
        removal = Removal(tuple(steps), tuple(patterns), tuple(after))
        self.removals.append(removal)
        for step in (*removal.steps, *removal.after):
            self.removals_of[step.name].append(removal)

    @functools.cached_property
    def shared(self) -> Shared | None:
        """The store of a team, if any; loaded when a step has to be built, and not before."""
        if self._place is None:
            return None
        from scripts.engine.shared import Shared

        url, writes = self._place
        return Shared(url, self.build, self.digests, self.progress.note, writes=writes)

    @functools.cached_property
    def cluster(self) -> Cluster | None:
        """The machines of a team, if any; loaded when a step has to be built, and not before."""
        if self._scheduler is None or self._place is None:
            return None
        from scripts.engine.cluster import Cluster

        return Cluster(self._scheduler, self.progress.note)

    @property
    def failed(self) -> list[str]:
        """The steps that ran and failed."""
        return [name for name, what in self.ended.items() if what.startswith("failed:")]

    def begin(self, *, force_all: bool = False) -> None:
        """From now on steps run, each before those that follow it."""
        self.force_all, self.looks_ahead = force_all, False

    def is_up_to_date(self, step: Step) -> bool:
        """Whether a step need not run; where nothing will run, nor any that it follows."""
        if self.looks_ahead:
            return self.status.is_current(step)
        if step.follows:  # that may have come to another verdict since this was last looked at
            self.status.forget(step)
            if step.name in self.named and self.status.verdict(step) == "skipped":
                return bool(self.status.stopped(step, follows=False))
        return not self.status.of(step).reasons

    def settled(self, wanted: Iterable[Step]) -> list[Step]:
        """These steps and all that they are made from, if each is up to date; else none, and each is looked at again in
        its turn.
        """
        steps = in_order(wanted)
        if all(not self.status.of(step).reasons for step in steps):
            return steps
        self.status.forget_all()
        return []

    def limits_of(self, step: Step) -> Limits:
        """How long a step may take, and how much memory it may use."""
        return step.limits or (self._limits(step.name) if self._limits else Limits())

    def likely_bytes(self, step: Step) -> int:
        """The memory that a step will probably take: as the last time; else by its model; else half of what is."""
        likely = self.limits_of(step).likely_bytes
        return self.records.memory(step.name, likely) or likely or usable_memory() // 2

    def log_of(self, step: Step) -> Path:
        """What the last run of a step printed."""
        return self.build / "logs" / f"{step.name.replace(':', '.')}.log"

    def start(self) -> None:
        """Before the first step that runs: see that the build can be written, and sweep what dead builds left.

        Raises `StoppedBuildError` where it can't.
        """
        with self._started:
            if not self._writable:
                try:
                    for folder in (self.build / publish.WORK, self.build / ".locks"):
                        folder.mkdir(parents=True, exist_ok=True)
                        if not os.access(folder, os.W_OK):
                            raise OSError(errno.EROFS, "can't be written", str(folder))
                except OSError as error:
                    self.stopped = True
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
        apart = environment_apart(home)
        if stage in self._at_home:
            apart = {name: value for name, value in apart.items() if name not in HOMES}
        return {name: value for name, value in apart.items() if stage not in self._online or name not in OFFLINE}

    def is_tied(self, step: Step) -> bool:
        """Whether a step needs what only this machine has: the network, the home folder, a secret, the whole build."""
        return (
            step.tied or step.stage in self._at_home or step.external_state is not None
            or bool(step.reads or step.optional)
        )  # fmt: skip

"""The one adapter of Dask: who is at a scheduler, and steps as tasks of a `distributed.Client`, by way of its
`concurrent.futures.Executor`.

Nothing here waits for an answer without a limit. A scheduler that hangs keeps its connections, which then tell nothing:
so it is asked who is there again and again, in a thread of its own, and who waits for it sees when it last answered.
Written for distributed 2026.8.0.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.process import check_interrupted
from scripts.common.secrets import redacted
from scripts.engine.worker import Workplace, describe

#: Seconds to reach a scheduler in, or to have an answer of it or of a worker; and between two looks at who is there.
ANSWER, LOOK = 10.0, 2.0
_PIECE = 0.5


@dataclass(frozen=True)
class Worker:
    """One that is there: its `--resources`, and what `describe_worker` says of it, or {"error": why it can't}."""

    resources: Mapping[str, float]
    machine: Mapping[str, Any]


class Scheduler:
    """A connection to a scheduler. Safe to be used by several threads."""

    def __init__(self, address: str) -> None:
        """Raises `ImportError` without Dask, and where no scheduler answers what that kind of connection raises."""
        import distributed

        _silence()
        self._client: Any = _within(
            2 * ANSWER, lambda: distributed.Client(address, timeout=ANSWER, set_as_default=False, name="ingot")
        )
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._there: dict[str, Mapping[str, float]] | None = None
        self._machines: dict[str, Mapping[str, Any]] = {}
        self._asking: set[str] = set()
        self._answered = time.monotonic()
        self._seen: dict[str, float] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def answered(self) -> float:
        """When it last said who is there, by `time.monotonic`."""
        return self._answered

    def seen(self, workers: Iterable[str]) -> float:
        """When one of these addresses was last seen there, by `time.monotonic`."""
        with self._lock:
            return max((self._seen.get(name, 0.0) for name in workers), default=0.0)

    def workers(self) -> dict[str, Worker] | None:
        """Address → worker, of those that are there and answer; None where not all that are there were asked yet."""
        with self._lock:
            if self._there is None or not self._there.keys() <= self._machines.keys():
                return None
            return {name: Worker(resources, self._machines[name]) for name, resources in self._there.items()
                    if self._machines[name]}  # fmt: skip

    def submit(self, job: Mapping[str, Any], workers: list[str], needs: Mapping[str, float]) -> Future[dict[str, Any]]:
        """Have one of these workers build: what `Workplace.build` returns of how it went, and "worker", its address."""
        executor: Executor = self._client.get_executor(pure=False, workers=workers, resources=dict(needs))
        return executor.submit(_on_worker, dict(job))

    def close(self) -> None:
        """Leave it, also where it does not answer."""
        self._closed.set()
        with contextlib.suppress(Exception):
            self._client.close(timeout=1)

    def _watch(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(Exception):  # no answer in time, or none at all; `answered` tells it
                told = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER)
                if self._client.status == "running":  # else what was submitted is lost
                    self._note(told["workers"])
            self._closed.wait(LOOK)

    def _note(self, there: Mapping[str, Mapping[str, Any]]) -> None:
        with self._lock:
            self._there = {name: one.get("resources") or {} for name, one in there.items()}
            self._answered = time.monotonic()
            self._seen.update(dict.fromkeys(there, self._answered))
            unknown = [name for name in there if not self._machines.get(name) and name not in self._asking]
            self._asking.update(unknown)
        for name in unknown:  # apart: one that hangs must not keep the others waiting
            threading.Thread(target=self._ask, args=(name,), daemon=True).start()

    def _ask(self, name: str) -> None:
        machine: Mapping[str, Any] = {}
        with contextlib.suppress(Exception):  # it has just gone, or hangs: asked again at the next look
            answer = self._client.run(describe_worker, workers=[name], on_error="return", callback_timeout=ANSWER)[name]
            if not isinstance(answer, OSError):
                machine = answer if isinstance(answer, dict) else {"error": one_line(answer)}
        with self._lock:
            self._machines[name] = machine
            self._asking.discard(name)


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What a call returns; `TimeoutError` where it takes longer. Dask's own limit does not hold where a scheduler takes
    a connection and says nothing.
    """
    made: Future[Any] = Future()

    def work() -> None:
        try:
            made.set_result(call())
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            made.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    end = time.monotonic() + seconds
    while not wait([made], timeout=_PIECE).done:
        check_interrupted()
        if time.monotonic() > end:
            raise TimeoutError(f"no answer in {seconds:.0f} s")
    return made.result()


def describe_worker() -> dict[str, Any]:
    """What tells whether a process like this one is a worker for a step."""
    import distributed

    return {**describe(), "dask": distributed.__version__}


def one_line(error: object) -> str:
    """What an exception says, without credentials."""
    return f"{type(error).__name__}: {redacted(' '.join(str(error).split()))[:200]}"


def _silence() -> None:
    """What is worth telling of Dask's own log is told here; each of its loggers has a level of its own."""
    for name in [*logging.root.manager.loggerDict]:
        if name.split(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@functools.cache
def _workplace(folder: str) -> Workplace:
    return Workplace(Path(folder))


_opening = threading.Lock()


def _give_threads_back() -> None:
    """Dask's nanny lets a worker compute with one thread, as many tasks run in it; a step is a process of its own."""
    import dask

    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items():
        if os.environ.get(name) == str(value):
            os.environ.pop(name, None)


def _on_worker(job: dict[str, Any]) -> dict[str, Any]:
    """What is run on a worker."""
    from distributed.worker import get_worker, thread_state

    worker, key = get_worker(), thread_state.key
    if worker.nanny:
        _give_threads_back()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    with _opening:
        workplace = _workplace(f"{worker.local_directory}/ingot")
    answer = workplace.build(job, is_wanted)
    return {**answer, "worker": worker.address}

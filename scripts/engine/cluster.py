"""The one adapter of Dask: steps as tasks of a `distributed.Client`, by way of its `concurrent.futures.Executor`.

doit says what is to be built and when; Dask says where. A step is bound to the workers that may have it: of the same
Python and Dask, of the kind of processor that its key names, with the resources that it needs. To build it twice does
no harm, since what it makes goes to the store by content: so a step is asked for again where a worker, the scheduler or
the network is gone, and built here where that does not help. Written for distributed 2026.8.0.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path
from typing import Any

from scripts.common.process import check_interrupted
from scripts.common.secrets import redacted
from scripts.engine.worker import Workplace, describe

#: Seconds to reach a scheduler in, to wait for a worker that may come, and between two looks at who is there.
CONNECT, PATIENCE, LOOK = 10.0, 30.0, 2.0
#: How often a step is asked for where its worker, the scheduler or the network went away.
TRIES = 3
_PIECE = 0.5


class LostError(Exception):
    """A step was given to a worker, and nobody knows any more what became of it."""


class UnfitError(Exception):
    """No worker may have a step; the message says why not."""


class Cluster:
    """The workers of one scheduler. Safe to be used by several threads."""

    def __init__(self, address: str, note: Callable[[str], None]) -> None:
        self.address, self._note = address, note
        self._lock = threading.Lock()
        self._client: Any = None
        self._described: dict[str, dict[str, Any]] = {}
        self._refused: dict[str, str] = {}
        self._given_up = False

    def build(
        self, job: Mapping[str, Any], needs: Mapping[str, float], said: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """Have a worker build: what `Workplace.build` returns of how it went, and "worker", its address.

        None where the step has to be built here: then a line says why.
        """
        tries = 0
        while not self._given_up:
            try:
                workers = self._fit(job["observed"], needs, said)
                answer: dict[str, Any] = self._ask(job, needs, workers, said)
            except UnfitError as error:
                self._tell(f"{job['step']}: {error}; building it here")
                return None
            except LostError as error:
                tries += 1
                if tries == TRIES:
                    self._tell(f"{job['step']}: {error}, for the third time; building it here")
                    return None
                self._tell(f"{job['step']}: {error}; once more")
                continue
            if "refused" in answer:
                self._refuse(answer["worker"], ", ".join(answer["refused"][:5]))
            elif "missing" in answer:
                self._tell(f"{job['step']}: {answer['worker']}: {answer['missing']}; building it here")
                return None
            else:
                return answer
        return None

    def _ask(
        self, job: Mapping[str, Any], needs: Mapping[str, float], workers: list[str], said: Callable[[str], None]
    ) -> dict[str, Any]:
        client = self._connected()
        executor: Executor = client.get_executor(pure=False, workers=workers, resources=dict(needs))
        future = executor.submit(_on_worker, dict(job))
        said(f"given to {self.address}")
        try:
            return self._wait(client, future, set(workers))
        except BaseException:
            future.cancel()  # and whoever is at it ends its child
            raise

    def _wait(self, client: Any, future: Future[dict[str, Any]], workers: set[str]) -> dict[str, Any]:
        seen = looked = time.monotonic()
        while True:
            check_interrupted()
            try:
                return future.result(timeout=_PIECE)
            except CancelledError:
                self._forget(client)
                raise LostError("the scheduler lost it") from None
            except TimeoutError:
                if future.done():
                    raise LostError("a worker gave no answer in time") from None
            except Exception as error:  # noqa: BLE001  (whatever a task raises, or Dask for it)
                raise self._translated(error) from None
            if (now := time.monotonic()) - looked >= LOOK:
                looked = now
                if client.status == "running" and workers & client.scheduler_info()["workers"].keys():
                    seen = now
                elif now - seen > PATIENCE:
                    self._forget(client)
                    raise LostError(f"nobody who may build it was seen for {PATIENCE:.0f} s")

    @staticmethod
    def _translated(error: Exception) -> Exception:
        text = redacted(" ".join(str(error).split()))[:300]
        if type(error).__name__ == "KilledWorker":
            return UnfitError("the workers that were at it died, one after the other")
        return LostError(f"{type(error).__name__}: {text}")

    def _fit(self, observed: Mapping[str, Any], needs: Mapping[str, float], said: Callable[[str], None]) -> list[str]:
        """Addresses of the workers that may have a step. Raises `UnfitError`, and `LostError` where none answers."""
        end = time.monotonic() + PATIENCE
        while not (found := self._workers()):
            check_interrupted()
            if self._refused or time.monotonic() > end:
                self._given_up = True
                raise UnfitError(f"{self.address} has no worker of this version")
            said(f"waiting for a worker of {self.address}")
            time.sleep(_PIECE)
        alike = {name: has for name, has in found.items() if _is_alike(observed, self._described[name])}
        if not alike:
            raise UnfitError("no worker is a machine of the kind that its key names")
        fit = [name for name, has in alike.items() if all(has.get(what, 0) >= much for what, much in needs.items())]
        if not fit:
            wanted = " ".join(f"{what}={much:g}" for what, much in needs.items())
            raise UnfitError(f'no worker has --resources "{wanted}"')
        return fit

    def _workers(self) -> dict[str, dict[str, float]]:
        """Address → resources, of those that are here, understood, and of our Python and Dask."""
        client = self._connected()
        with self._lock:
            there = client.scheduler_info()["workers"]
            if new := [name for name in there if name not in self._described and name not in self._refused]:
                self._describe(client, new)
            return {name: one.get("resources") or {} for name, one in there.items() if name in self._described
                    and name not in self._refused}  # fmt: skip

    def _describe(self, client: Any, names: list[str]) -> None:
        try:
            answers = client.run(_describe, workers=names, on_error="return")
        except Exception as error:  # noqa: BLE001  (one of them has just gone)
            raise LostError(f"{type(error).__name__}: {redacted(str(error))[:200]}") from None
        here = _describe()
        for name, answer in answers.items():
            if not isinstance(answer, dict):
                self._refuse(name, f"{type(answer).__name__}: {redacted(str(answer))[:200]}")
            elif differs := [f"{what} {answer[what]}, not {here[what]}" for what in ("python", "dask")
                             if answer[what] != here[what]]:  # fmt: skip
                self._refuse(name, ", ".join(differs))
            else:
                self._described[name] = answer

    def _refuse(self, name: str, why: str) -> None:
        self._refused[name] = why
        self._tell(f"{name} is not used: it has {why}")

    def _connected(self) -> Any:
        with self._lock:
            if self._given_up:
                raise UnfitError("no workers")
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        try:
            import distributed
        except ImportError:
            self._given_up = True
            raise UnfitError("distributed is not installed: pip install -e '.[team]'") from None
        _silence()
        end = time.monotonic() + PATIENCE
        while True:
            check_interrupted()
            try:
                return distributed.Client(self.address, timeout=CONNECT, set_as_default=False, name="ingot")
            except Exception as error:  # noqa: BLE001  (each kind of connection has errors of its own)
                if time.monotonic() > end:
                    self._given_up = True
                    why = redacted(" ".join(str(error).split()))[:200]
                    raise UnfitError(f"{self.address} can't be reached ({why})") from None
                time.sleep(_PIECE)

    def _forget(self, client: Any) -> None:
        """Connect anew when next needed."""
        with self._lock:
            if self._client is client:
                self._client = None
                self._described.clear()
        with contextlib.suppress(Exception):
            client.close(timeout=1)

    def _tell(self, text: str) -> None:
        self._note(f"dask {text}")


def _silence() -> None:
    """What is worth telling of Dask's own log is told here; each of its loggers has a level of its own."""
    for name in [*logging.root.manager.loggerDict]:
        if name.split(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _is_alike(observed: Mapping[str, Any], machine: Mapping[str, Any]) -> bool:
    """Whether a machine is one for which the key of a step speaks: of its kind of processor, or the measured one."""
    return all(machine.get(name) == value for name, value in observed.items() if name in ("processor", "machine"))


def _describe() -> dict[str, Any]:
    import distributed

    return {**describe(), "dask": distributed.__version__}


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

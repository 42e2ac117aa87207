"""Steps for the workers of a scheduler: which of them may have one, and what is done where that does not go well.

doit says what is to be built and when; Dask says where. A step is bound to the workers that may have it: of the same
Python and Dask, of the kind of processor that its key names, with the resources that it needs. To build it twice does
no harm, since what it makes goes to the store by content: so a step is asked for again where a worker, the scheduler or
the network is gone, and built here where that does not help.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, wait
from typing import Any

from scripts.common.hashes import digest_bytes
from scripts.common.process import check_interrupted
from scripts.engine.scheduler import Scheduler, Worker, describe_worker, one_line

#: Seconds to wait for a scheduler, or for a worker that may come.
PATIENCE = 30.0
#: How often a step is asked for where its worker, the scheduler or the network went away.
TRIES = 3
_PIECE = 0.5


class LostError(Exception):
    """A step was given to a worker, and nobody knows any more what became of it."""


class GoneError(LostError):
    """The scheduler lost it, or is not there: it has to be reached anew, which ends all that runs by way of it."""


class UnfitError(Exception):
    """No worker may have a step; the message says why not, and is empty where that was said before."""


class Cluster:
    """The workers of one scheduler. Safe to be used by several threads."""

    def __init__(self, address: str, note: Callable[[str], None]) -> None:
        self.address, self._note = address, note
        self._lock = threading.Lock()
        self._scheduler: Scheduler | None = None
        self._given_up = self._waited = False
        #: (worker, what acts in a step: "" is all) → why it is not for that.
        self._refused: dict[tuple[str, str], str] = {}

    def build(
        self, job: Mapping[str, Any], needs: Mapping[str, float], said: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """Have a worker build: what `Workplace.build` returns of how it went, and "worker", its address.

        None where the step has to be built here: then a line says why, one for all where nobody can be reached.
        """
        without: dict[str, str] = {}
        tries = 0
        while True:
            try:
                scheduler = self._reached()
                workers = self._fit(scheduler, job, needs, without, said)
                answer = self._ask(scheduler, job, needs, workers, said)
            except UnfitError as error:
                if str(error):
                    self._tell(f"{job['step']}: {error}")
                return None
            except LostError as error:
                tries += 1
                if isinstance(error, GoneError):
                    self._forget(scheduler)
                if tries == TRIES:
                    self._tell(f"{job['step']}: {error}, for the third time; building it here")
                    return None
                self._tell(f"{job['step']}: {error}; once more")
                continue
            if "refused" in answer:
                what = f"{job['stage']} {job['verb']}"
                self._refuse(answer["worker"], _acting(job), ", ".join(answer["refused"][:5]), f" for {what}")
            elif "missing" in answer:
                without[answer["worker"]] = f"{answer['worker']}: {answer['missing']}"
            elif "unstored" in answer:  # as it would be after a run on any other
                self._tell(f"{job['step']}: {answer['worker']}: {answer['unstored']}; building it here")
                return None
            else:
                return answer

    def _ask(
        self, scheduler: Scheduler, job: Mapping[str, Any], needs: Mapping[str, float], workers: list[str],
        said: Callable[[str], None],
    ) -> dict[str, Any]:  # fmt: skip
        try:
            future = scheduler.submit(job, workers, needs)
        except Exception as error:  # noqa: BLE001  (a connection that closed itself has errors of its own)
            raise GoneError(one_line(error)) from None
        said(f"given to {self.address}")
        begun = time.monotonic()
        try:
            while not wait([future], timeout=_PIECE).done:
                check_interrupted()
                if time.monotonic() - max(begun, scheduler.seen(workers)) > PATIENCE:
                    self._see_answer(scheduler)
                    raise LostError(f"nobody who may build it was seen for {PATIENCE:.0f} s")
        except BaseException:
            future.cancel()  # and whoever is at it ends its child
            raise
        return self._outcome(future)

    def _see_answer(self, scheduler: Scheduler) -> None:
        """Raises `GoneError` where a scheduler itself is not heard of, whatever it said before."""
        if time.monotonic() - scheduler.answered > PATIENCE:
            raise GoneError(f"{self.address} gave no answer for {PATIENCE:.0f} s")

    @staticmethod
    def _outcome(future: Future[dict[str, Any]]) -> dict[str, Any]:
        try:
            return future.result(timeout=0)
        except CancelledError:
            raise GoneError("the scheduler lost it") from None
        except Exception as error:  # noqa: BLE001  (whatever a task raises, or Dask for it)
            if type(error).__name__ == "KilledWorker":
                raise UnfitError("the workers that were at it died, one after the other; building it here") from None
            raise LostError(one_line(error)) from None

    def _fit(
        self, scheduler: Scheduler, job: Mapping[str, Any], needs: Mapping[str, float], without: Mapping[str, str],
        said: Callable[[str], None],
    ) -> list[str]:  # fmt: skip
        """Addresses of the workers that may have a step. Raises `UnfitError`, and `GoneError` where none answers."""
        there, acting = self._there(scheduler, said), _acting(job)
        ours = {name: one for name, one in there.items() if not self._is_refused(name, one, acting)}
        if not ours:
            raise UnfitError(f"{self.address} has no worker of this version; building it here")
        known = {name: one for name, one in ours.items() if name not in without}
        if not known:
            raise UnfitError(f"{'; '.join(without.values())}; building it here")
        alike = {name: one for name, one in known.items() if _is_alike(job["observed"], one.machine)}
        if not alike:
            raise UnfitError("no worker is a machine of the kind that its key names; building it here")
        fit = [name for name, one in alike.items()
               if all(one.resources.get(what, 0) >= much for what, much in needs.items())]  # fmt: skip
        if not fit:
            wanted = " ".join(f"{what}={much:g}" for what, much in needs.items())
            raise UnfitError(f'no worker has --resources "{wanted}"; building it here')
        return fit

    def _there(self, scheduler: Scheduler, said: Callable[[str], None]) -> dict[str, Worker]:
        """The workers, waited for once; later steps look whether one has come."""
        begun = time.monotonic()
        while True:
            self._see_answer(scheduler)
            if found := scheduler.workers():
                self._waited = False
                return found
            check_interrupted()
            if found is not None and self._waited:
                raise UnfitError("")
            if time.monotonic() - begun > PATIENCE:
                self._waited = True
                raise UnfitError(f"{self.address} has no worker; building it here, and so on until one comes")
            said(f"waiting for a worker of {self.address}")
            time.sleep(_PIECE)

    def _is_refused(self, name: str, worker: Worker, acting: str) -> bool:
        here = describe_worker()
        if "error" in worker.machine:
            self._refuse(name, "", worker.machine["error"])
        elif differs := [f"{what} {worker.machine[what]}, not {here[what]}" for what in ("python", "dask")
                         if worker.machine[what] != here[what]]:  # fmt: skip
            self._refuse(name, "", ", ".join(differs))
        return (name, "") in self._refused or (name, acting) in self._refused

    def _refuse(self, name: str, acting: str, why: str, what: str = "") -> None:
        with self._lock:
            known = self._refused.get((name, acting))
            self._refused[name, acting] = why
        if known is None:
            self._tell(f"{name} is not used{what}: it has {why}")

    def _reached(self) -> Scheduler:
        with self._lock:
            if self._given_up:
                raise UnfitError("")
            if self._scheduler is None:
                self._scheduler = self._connect()
            return self._scheduler

    def _connect(self) -> Scheduler:
        end = time.monotonic() + PATIENCE
        why = ""
        while time.monotonic() < end:
            check_interrupted()
            try:
                return Scheduler(self.address)
            except ImportError:
                self._given_up = True
                raise UnfitError("distributed is not installed: pip install -e '.[team]'; building it here, and all "
                                 "that follows") from None  # fmt: skip
            except Exception as error:  # noqa: BLE001  (each kind of connection has errors of its own)
                why = one_line(error)
                time.sleep(_PIECE)
        self._given_up = True
        raise UnfitError(f"{self.address} can't be reached ({why}); building it here, and all that follows")

    def _forget(self, scheduler: Scheduler) -> None:
        """Connect anew when next needed."""
        with self._lock:
            if self._scheduler is scheduler:
                self._scheduler = None
        scheduler.close()

    def _tell(self, text: str) -> None:
        self._note(f"dask {text}")


def _acting(job: Mapping[str, Any]) -> str:
    """The code and the tools that act in a step: a worker whose own differ from these may be of use for others."""
    return digest_bytes(json.dumps([job["sources"], job["tools"]], sort_keys=True).encode())


def _is_alike(observed: Mapping[str, Any], machine: Mapping[str, Any]) -> bool:
    """Whether a machine is one for which the key of a step speaks: of its kind of processor, or the measured one."""
    return all(machine.get(name) == value for name, value in observed.items() if name in ("processor", "machine"))

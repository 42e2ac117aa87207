"""A process to be measured, and what is seen of it from outside: resident memory and CPU time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from scripts.common import program
from scripts.common.errors import IngotError
from scripts.common.json_child import ClosedError, JsonChild, NoReplyError

SECONDS = 600  # that one request may take; a model that needs more is not one to serve from this machine
#: A build's children wait by sleeping. What measures runs alone, and must not: llama.cpp, whose threads should sleep
#: between any two operations then, decodes at 28 tokens a second instead of 64 (SmolLM2-135M, 2 threads).
_NOT_FOR_CHILDREN = ("OMP_WAIT_POLICY",)


class Refused(IngotError):  # noqa: N818 - reads as what it is
    """The process answered that a request failed, and lives on."""


class Died(IngotError):  # noqa: N818 - reads as what it is
    """The process ended, or did not answer in time; `code` is what it ended with, -N for signal N."""

    code = 0


class Child:
    """Speaks JSON lines with a process; raises `Refused` and `Died`, which name `subject`, with what it said."""

    def __init__(self, subject: Path, command: Sequence[str] | None = None) -> None:
        """`command`: what is started; by default the process that serves the package `subject`."""
        self._subject = subject.absolute()
        self._command = command or program.command("scripts.bench", "serve", package=self._subject)

    def __enter__(self) -> Self:
        self._child = JsonChild(self._command, without=_NOT_FOR_CHILDREN)
        self._outside = psutil.Process(self._child.pid)
        self._peak = 0
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._child.end(grace=10 if kind is None else 0.1)
        self._sampler.join()

    def ask(self, request: dict[str, Any]) -> Any:
        """Send one request and wait for its reply."""
        try:
            reply = self._child.ask(request, SECONDS)
        except ClosedError:
            code = self._child.code()
            how = "closed its output" if code is None else f"ended with {code}"
            died = Died(self._subject, f"the serving process {how} at {request['do']!r}")
            died.code = code or 0
            raise died from None
        except NoReplyError as error:
            raise Died(self._subject, f"the serving process failed at {request['do']!r}: {error}") from None
        if "error" in reply:
            raise Refused(self._subject, f"cannot be measured: {reply['error']}")
        return reply

    def rss(self) -> int:
        """Resident bytes, now."""
        return int(self._outside.memory_info().rss)

    def peak_rss(self) -> int:
        """Most resident bytes seen so far; where the system keeps the exact figure, that."""
        own = self._outside.memory_info()
        return max(self._peak, int(getattr(own, "peak_wset", 0)), _high_water(self._child.pid))

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        times = self._outside.cpu_times()
        return float(times.user + times.system)

    def threads(self) -> int:
        """Threads of the process, now."""
        return int(self._outside.num_threads())

    def _sample(self) -> None:
        while not self._over.wait(0.05):
            try:
                self._peak = max(self._peak, self.rss())
            except psutil.Error:
                return


def _high_water(pid: int) -> int:
    """VmHWM of /proc/PID/status (Linux), in bytes; 0 elsewhere."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)

"""A real Dask scheduler and real workers, as processes on the loopback; each can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.engine.projects import ROOT

#: What a worker has, for `--resources`.
PLENTY = "memory=1e15"


class Dask:
    """One scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler = self._scheduler()
        self.workers: list[subprocess.Popen[bytes]] = []

    def work(self, resources: str = PLENTY, project: Path = ROOT, path: str = "") -> subprocess.Popen[bytes]:
        """Start a worker of this project, or of a copy of it, and see it registered; nobody starts it again once it is
        killed. `path`: what else is on its PYTHONPATH.
        """
        place, before = self.folder / f"worker-{len(self.workers)}", self.said().count("Registered to")
        words = ["worker", self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--resources", resources,
                 "--local-directory", str(place)]  # fmt: skip
        self.workers.append(self._start(*words, project=project, path=path))
        end = time.monotonic() + 120
        while self.said().count("Registered to") == before:
            assert time.monotonic() < end and self.workers[-1].poll() is None, self.said()
            time.sleep(0.1)
        return self.workers[-1]

    def restart(self) -> None:
        """Kill the scheduler, and start another one at its address, with as many workers."""
        count = len(self.workers)
        self.stop()
        self.scheduler, self.workers = self._scheduler(), []
        for _ in range(count):
            self.work()

    def stop(self) -> None:
        """End all of it."""
        for process in [*self.workers, self.scheduler]:
            kill(process)

    def said(self) -> str:
        """What all of them printed."""
        return "".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))

    def _scheduler(self) -> subprocess.Popen[bytes]:
        started = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return started
            except OSError:
                assert time.monotonic() < end and started.poll() is None, self.said()
                time.sleep(0.1)

    def at(self, step: str) -> int | None:
        """The number of the worker that is at a step now."""
        work = self.folder.glob(f"worker-*/dask-scratch-space/*/ingot/.work/{step.replace(':', '.')}.*/log")
        found = next(iter(work), None)
        return int(found.relative_to(self.folder).parts[0].removeprefix("worker-")) if found else None

    def _start(self, *words: str, project: Path = ROOT, path: str = "") -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}-{time.monotonic_ns()}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *words], cwd=project, stdout=log, stderr=subprocess.STDOUT,
                # A temporary folder of its own: a measurement elsewhere on this machine must not keep it waiting.
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{project}{os.pathsep}{path}",
                     "TMPDIR": str(self.folder)}, start_new_session=True,
            )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

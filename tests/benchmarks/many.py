"""What a team's thousand models cost the machinery alone: 1,000 models in 4 precisions, by default; prints JSON.

    python -m tests.benchmarks.many [--models 1000] [--rounds 3]

The graph is that of `dodo.py`, with artifacts of a few bytes; the children that would make them are replaced by what
they would have made (tests/benchmarks/noop.py), nothing else is. Told are: what the engine spends on each step of the
first build; a `doit` with nothing to do, with a shared store whose requests are counted; `doit why` then, and after one
model's weights were edited; and each command's processor time and peak memory, which other work on the machine disturbs
less than its wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from scripts.common.machine import fingerprint
from tests.benchmarks import noop


class Listener:
    """A port of this machine that counts who comes, and answers nobody."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.requests = 0
        self.environment = {
            "STORE": "s3://team/many", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._socket.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
        }  # fmt: skip
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.requests += 1
            connection.close()


def timed(folder: Path, words: list[str], env: dict[str, str]) -> dict[str, float]:
    """Wall and processor seconds, and peak memory, of one doit."""
    command = [sys.executable, "-m", "doit", *words, "-f", "ingot.py"]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=folder / "ingot", env=noop.environment(folder) | env,
                          stdout=subprocess.DEVNULL) as child:  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, words
    return {"wall_s": time.perf_counter() - started, "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_mib": usage.ru_maxrss / 1024}  # fmt: skip


def medians(folder: Path, words: list[str], env: dict[str, str], rounds: int) -> dict[str, float]:
    rows = [timed(folder, words, env) for _ in range(rounds)]
    return {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}


def measure(models: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="many") as name:
        folder = Path(name)
        built = noop.prepare(folder, models, ("ingot",))["ingot"]
        tasks, store = 35 * models + 1, Listener()
        found: dict[str, Any] = {"models": models, "tasks": tasks, "build_s": round(built, 1),
                                 "build_ms_a_step": round(1000 * built / tasks, 2)}  # fmt: skip
        timed(folder, ["run"], {})  # warms the caches
        found["noop"] = medians(folder, ["run"], store.environment, rounds)
        found["noop_store_requests"] = store.requests
        found["why"] = medians(folder, ["why"], store.environment, rounds)
        (folder / "weights" / "m0" / "model.safetensors").write_text("another")
        found["why_of_an_edit"] = medians(folder, ["why"], store.environment, rounds)
        found["why_store_requests"] = store.requests - found["noop_store_requests"]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    found = {**measure(given.models, given.rounds), "load_before": round(load, 1), "load_after": os.getloadavg()[0]}
    print(json.dumps(found | {"python": platform.python_version(), "machine": fingerprint()}, indent=1))


if __name__ == "__main__":
    main()

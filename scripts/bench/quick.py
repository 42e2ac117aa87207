"""The quick profile: a dozen requests of mixed length, two rates, memory and CPU; under a minute for a small model.

Everything is measured on a child of its own (`serve`), response times by the child's clock where the pieces arrive,
memory and CPU from outside by psutil. Names are those of AIPerf (`time_to_first_token_ms`, `inter_token_latency_ms`,
`request_latency_ms`) and of llama-bench (`pp512`, `tg128`: tokens a second).
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from scripts.bench import conditions
from scripts.engine.childenv import CHILD_LOCK, LIFELINE, REASON_FILE
from scripts.engine.errors import IngotError

PROMPT_WORDS = (24, 96, 192, 320)  # about 1.3 tokens each
ROUNDS = 3
NEW_TOKENS = 32
PREFILL, DECODE, TIMES = 512, 128, 2
SECONDS = 600  # that one request may take; a model that needs more is not one to serve from this machine
_TEXT = (
    "the parcel arrived late and one corner was torn so we opened it at the desk and counted every item "
    "against the order twice before we wrote to the shop about what was missing and what we would like"
)


def quick(package: Path) -> dict[str, Any]:
    """Measure one package; returns the fields of bench.json. Times in milliseconds, memory in bytes.

    Raises `IngotError` if the package does not load or answer, with the runtime's words.
    """
    facts = conditions.of_package(package)
    words = [n for n in PROMPT_WORDS if 2 * n + NEW_TOKENS < facts["context_length"]] or [8]
    with Child(package) as child:
        load = child.ask({"do": "load"})["load_seconds"]
        print(f"bench: loaded in {load:.1f} s", flush=True)
        child.ask({"do": "ask", "prompt": _prompt(words[0], 0), "tokens": NEW_TOKENS})  # warm-up, dropped
        cpu, begin = child.cpu_seconds(), time.perf_counter()
        requests = []
        plan = words * ROUNDS
        for number, length in enumerate(plan, 1):
            requests.append(child.ask({"do": "ask", "prompt": _prompt(length, number), "tokens": NEW_TOKENS}))
            print(f"bench: request {number} of {len(plan)}", flush=True)
        cpu, wall = child.cpu_seconds() - cpu, time.perf_counter() - begin
        steady, peak = child.rss(), child.peak_rss()
        threads = child.threads()
        prefill = min(PREFILL, facts["context_length"] - 8)
        rates = child.ask({"do": "rates", "prefill": prefill, "decode": DECODE, "times": TIMES})
        print("bench: rates", flush=True)
    tokens = sum(request["completion_tokens"] for request in requests)
    return {
        "verdict": "passed",
        "reasons": [],
        **latencies(requests),
        "pp512": _rate(prefill, rates["prefill_seconds"]),
        "tg128": _rate(DECODE, rates["decode_seconds"]),
        "load_seconds": round(load, 3),
        "peak_rss_bytes": peak,
        "steady_rss_bytes": steady,
        "cpu_percent": round(100 * cpu / wall, 1),
        "cpu_seconds_per_token": round(cpu / tokens, 5) if tokens else None,
        "samples": {"requests": requests, "rates": rates},
        "conditions": {
            **facts,
            "profile": "quick",
            "requests": len(requests),
            "concurrency": 1,
            "new_tokens_at_most": NEW_TOKENS,
            "prefill_tokens": prefill,
            "process_threads": threads,
            "latencies_by": "streaming in the process that serves, by its own clock, one warm-up request dropped",
            "pp512_tg128_by": "onnxruntime-genai's generator on the same package, in the same process, random tokens",
            "memory_and_cpu_by": "psutil, from outside that process, while it loaded and answered",
            **conditions.of_machine(),
        },
    }


def latencies(requests: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Percentiles of TTFT, inter-token latency and request latency over requests, in milliseconds.

    A request's inter-token latency is, as AIPerf has it, (last piece - first piece) / (output tokens - 1); answers
    of one token have none. An answer without text counts with its whole latency as time to first token.
    """
    first = [r["at_ms"][0] if r["at_ms"] else r["done_ms"] for r in requests]
    between = [
        (r["at_ms"][-1] - r["at_ms"][0]) / (r["completion_tokens"] - 1)
        for r in requests
        if r["completion_tokens"] > 1 and len(r["at_ms"]) > 1
    ]
    return {
        "time_to_first_token_ms": percentiles(first),
        "inter_token_latency_ms": percentiles(between),
        "request_latency_ms": percentiles([r["done_ms"] for r in requests]),
    }


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p90 and p99, interpolated between neighbours; None where nothing was measured."""
    ordered = sorted(values)

    def at(share: float) -> float | None:
        if not ordered:
            return None
        place = share * (len(ordered) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        return round(low + (high - low) * (place - math.floor(place)), 3)

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99)}


def _rate(tokens: int, seconds: Sequence[float]) -> float:
    """Tokens a second, of the mean time."""
    return round(tokens * len(seconds) / sum(seconds), 2)


def _prompt(words: int, number: int) -> str:
    """A question of about `words` words, different for each request from its first word on: nothing is cached."""
    text = _TEXT.split()
    return f"Note {number}: " + " ".join(text[(number + i) % len(text)] for i in range(words)) + ". Sum this up."


class Child:
    """The serving process and, from outside, its memory and CPU. Raises `IngotError` with what it said."""

    def __init__(self, package: Path) -> None:
        self._package = package.absolute()

    def __enter__(self) -> Self:
        # It stays in our process group, so that whatever ends us ends it too, and speaks over stdin, whose end is its
        # own. What a build tells its children through the environment is for us, not for it.
        private = (LIFELINE, CHILD_LOCK, REASON_FILE)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.bench", "serve", "--package", str(self._package)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            cwd=Path(__file__).parents[2],
            env={name: value for name, value in os.environ.items() if name not in private},
        )
        self._outside = psutil.Process(self._process.pid)
        self._peak = 0
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        assert self._process.stdin
        try:
            self._process.stdin.close()  # its loop ends, and with it the process
            self._process.wait(timeout=10 if kind is None else 0.1)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._sampler.join()

    def ask(self, request: dict[str, Any]) -> Any:
        """Send one request and wait for its reply."""
        assert self._process.stdin
        assert self._process.stdout
        watch = threading.Timer(SECONDS, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            watch.cancel()
        if not line:
            code = self._process.wait()
            raise IngotError(self._package, f"the serving process ended with {code} at {request['do']!r}")
        reply = json.loads(line)
        if "error" in reply:
            raise IngotError(self._package, f"cannot be measured: {reply['error']}")
        return reply

    def rss(self) -> int:
        """Resident bytes, now."""
        return int(self._outside.memory_info().rss)

    def peak_rss(self) -> int:
        """Most resident bytes seen so far; where the system keeps the exact figure, that."""
        own = self._outside.memory_info()
        return max(self._peak, int(getattr(own, "peak_wset", 0)), _high_water(self._process.pid))

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

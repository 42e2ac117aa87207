"""The quick profile: a dozen requests of mixed length, two rates, memory and CPU; about a minute for a small model.

Everything is measured on children of their own (`serve`), response times by the child's clock where the pieces arrive,
memory and CPU from outside by psutil. Names are those of AIPerf (`time_to_first_token_ms`, `inter_token_latency_ms`,
`request_latency_ms`) and of llama-bench (`pp512`, `tg128`: tokens a second).

The run is an A/A experiment: three or four processes, one after the other, serve the same package and are asked the
same. What they say together is the result; how far they are apart is its noise (`stats.noise`). Where three agree well
enough, there is no fourth.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.bench import conditions, roofline, stats
from scripts.bench.child import Child
from scripts.results import measured
from scripts.results.bench import Bench

PROMPT_WORDS = (24, 96, 192, 320)  # about 1.3 tokens each
#: Processes that are measured at the least, and at the most; no more where the noise of each figure is `NARROW`.
LEAST, MOST = 3, 4
NARROW = 0.05
NEW_TOKENS = 32
PREFILL, DECODE = 512, 128
_TEXT = (
    "the parcel arrived late and one corner was torn so we opened it at the desk and counted every item "
    "against the order twice before we wrote to the shop about what was missing and what we would like"
)
_TIMES = ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms")


def quick(package: Path) -> Bench:
    """Measure one package; returns the content of bench.json. Times in milliseconds, memory in bytes.

    `noise` holds, by figure, the share that two such runs may differ by when nothing changed. Raises `IngotError` if
    the package does not load or answer, with the runtime's words.
    """
    facts = conditions.of_package(package)
    neighbours = conditions.Neighbours()
    words = [n for n in PROMPT_WORDS if 2 * n + NEW_TOKENS < facts["context_length"]] or [8]
    prefill = min(PREFILL, facts["context_length"] - 8)
    blocks = list[dict[str, Any]]()
    while not is_enough(blocks):
        blocks.append(_block(package, words, prefill, facts["threads"], len(blocks)))
        print(f"bench: {len(blocks)} of at most {MOST} measured", flush=True)
    requests = [request for block in blocks for request in block["requests"]]
    of_token = roofline.bytes_per_token(package, (DECODE + 1) / 2)
    bandwidth = max(block["bandwidth"] for block in blocks)
    rates = _means(blocks, {"pp512": 2, "tg128": 2, "load_seconds": 3, "cpu_percent": 1, "cpu_seconds_per_token": 5})
    share = rates["tg128"] * of_token / bandwidth
    most = f"{of_token / 1e6:.1f} MB a token, {bandwidth / 1e9:.1f} GB a second read by {facts['threads']} threads"
    print(f"bench: {most}: decodes at {share:.0%} of what memory allows", flush=True)
    latencies: dict[str, Any] = stats.latencies(requests)
    return Bench(
        verdict="passed",
        reasons=[],
        **latencies,
        **rates,
        read_bytes_per_token=of_token,
        read_bytes_per_second=round(bandwidth),
        bandwidth_share=round(share, 4),
        peak_rss_bytes=max(block["peak_rss_bytes"] for block in blocks),
        steady_rss_bytes=round(statistics.median(block["steady_rss_bytes"] for block in blocks)),
        noise=floor(blocks),
        samples={"requests": requests, "blocks": [{k: v for k, v in b.items() if k != "requests"} for b in blocks]},
        package=measured.digest(package),
        conditions={
            **facts,
            "profile": "quick",
            "requests": len(requests),
            "concurrency": 1,
            "new_tokens_at_most": NEW_TOKENS,
            "prefill_tokens": prefill,
            "process_threads": blocks[-1]["threads"],
            "latencies_by": f"streaming in the process that serves, by its own clock; {len(blocks)} such processes, of "
            "each one warm-up request dropped",
            "pp512_tg128_by": "onnxruntime-genai's generator on the same package, in the same process, random tokens",
            "read_bytes_per_second_by": "the same processes without a model, with as many threads, reading "
            f"{roofline.bytes_to_read() >> 20} MiB in order; the fastest of all",
            "memory_and_cpu_by": "psutil, from outside that process, while it loaded and answered",
            "noise_by": f"how far the {len(blocks)} processes are apart, all of the same package",
            **neighbours.conditions(),
            **conditions.of_machine(),
        },
    )


def is_enough(blocks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no more need to be measured: all figures are known well enough, or there were `MOST`."""
    if len(blocks) < LEAST:
        return False
    return len(blocks) >= MOST or all(share is not None and share <= NARROW for share in floor(blocks).values())


def floor(blocks: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The A/A floor of each figure, as a share of its value, from blocks that each hold `requests` and figures."""
    times = [stats.latencies(block["requests"]) for block in blocks]
    figures = ("tg128", "pp512", "peak_rss_bytes", "steady_rss_bytes", "cpu_seconds_per_token")
    found = {name: [block[name] for block in blocks] for name in figures}
    found |= {name: [of_block[name].p50 for of_block in times] for name in _TIMES}
    return {name: stats.noise(values, stats.ENDED_EARLY) for name, values in found.items()}


def prompt(words: int, number: int) -> str:
    """A question of about `words` words, different for each request from its first word on: nothing is cached."""
    text = _TEXT.split()
    return f"Note {number}: " + " ".join(text[(number + i) % len(text)] for i in range(words)) + ". Sum this up."


def _block(package: Path, words: Sequence[int], prefill: int, cores: int, number: int) -> dict[str, Any]:
    """What one process says: it loads, is warmed up, answers, and is measured bare. Every other one goes backwards."""
    with Child(package) as child:
        load = child.ask({"do": "load"})["load_seconds"]
        child.ask({"do": "ask", "prompt": prompt(words[0], 0), "tokens": NEW_TOKENS})
        cpu, begin = child.cpu_seconds(), time.perf_counter()
        requests = [
            child.ask({"do": "ask", "prompt": prompt(length, number * len(words) + i + 1), "tokens": NEW_TOKENS})
            for i, length in enumerate(words if number % 2 == 0 else reversed(words))
        ]
        cpu, wall = child.cpu_seconds() - cpu, time.perf_counter() - begin
        steady, peak, threads = child.rss(), child.peak_rss(), child.threads()
        rates = child.ask({"do": "rates", "prefill": prefill, "decode": DECODE, "times": 1})
        bandwidth = child.ask({"do": "bandwidth", "threads": cores})["bytes_per_second"]
    tokens = sum(request["completion_tokens"] for request in requests)
    return {
        "requests": requests,
        "load_seconds": load,
        "pp512": prefill / rates["prefill_seconds"][0],
        "tg128": DECODE / rates["decode_seconds"][0],
        "bandwidth": bandwidth,
        "steady_rss_bytes": steady,
        "peak_rss_bytes": peak,
        "cpu_percent": 100 * cpu / wall,
        "cpu_seconds_per_token": cpu / tokens if tokens else None,
        "threads": threads,
    }


def _means(blocks: Sequence[Mapping[str, Any]], digits: Mapping[str, int]) -> dict[str, Any]:
    found = {name: [block[name] for block in blocks if block[name] is not None] for name in digits}
    return {name: round(statistics.fmean(values), digits[name]) if values else None for name, values in found.items()}

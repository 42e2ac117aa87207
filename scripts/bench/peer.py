"""llama.cpp on the GGUF file that a model was made from: what a user would pick instead. Speed and memory only.

It is measured in a process of its own (`serve`, with the same protocol as `bench.serve`), never in the one that serves
the package: two runtimes in one process share its threads and its memory. The extra `peers` brings it
(llama-cpp-python, which builds llama.cpp for this very processor, in ten minutes or so); without it there is nothing to
compare with.
"""

from __future__ import annotations

import ctypes
import random
import signal
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scripts.bench import stats
from scripts.bench.child import Child, Died
from scripts.common import json_child, program
from scripts.common.errors import IngotError
from scripts.results.bench import Peer

DISTRIBUTION = "llama-cpp-python"
MISSING = "llama.cpp is not installed. For a comparison: pip install -e '.[peers]' (it compiles for ten minutes or so)"


def installed() -> str | None:
    """The version of llama-cpp-python, without importing it; None where it is not installed."""
    try:
        return version(DISTRIBUTION) if find_spec("llama_cpp") else None
    except PackageNotFoundError:
        return None


def packs(file: Path, context: int, threads: int) -> bool:
    """Whether llama.cpp can use weights that are packed for this processor, as it likes to (AMX, repacking).

    Some virtual machines announce instructions that they then refuse (seen: AMX's tilezero, llama.cpp of
    llama-cpp-python 0.3.36); there it is measured without them rather than not at all.
    """
    try:
        with Child(file, program.command("scripts.bench", "peer", file=file)) as child:
            child.ask({"do": "load", "context": context, "threads": threads, "packed": True})
            child.ask({"do": "rates", "prefill": 64, "decode": 1, "times": 1})
    except Died as died:
        if died.code != -getattr(signal, "SIGILL", 4):
            raise
        return False
    return True


def block(file: Path, context: int, threads: int, packed: bool, prefill: int, decode: int) -> dict[str, Any]:
    """Measure `file` once, in a fresh process: rates in tokens a second, resident memory in bytes."""
    with Child(file, program.command("scripts.bench", "peer", file=file)) as child:
        loaded = child.ask({"do": "load", "context": context, "threads": threads, "packed": packed})
        child.ask({"do": "rates", "prefill": 16, "decode": 4, "times": 1})  # warm-up, dropped
        rates = child.ask({"do": "rates", "prefill": prefill, "decode": decode, "times": 1})
        return {
            **loaded,
            "pp512": prefill / rates["prefill_seconds"][0],
            "tg128": decode / rates["decode_seconds"][0],
            "steady_rss_bytes": child.rss(),
            "peak_rss_bytes": child.peak_rss(),
        }


def summary(file: Path, context: int, own: list[dict[str, Any]], peers: list[dict[str, Any]]) -> Peer:
    """The `peer` of bench-full.json: its figures, and the package's as a multiple of them with 95 % intervals.

    The blocks of both alternated in one run. `rss` compares the peaks of both after prompts of up to 512 tokens.
    """
    pairs = {"decode": "tg128", "prefill": "pp512", "rss": "peak_rss_bytes"}
    ratios = {
        name: stats.ratio([block[figure] for block in own], [block[figure] for block in peers])
        for name, figure in pairs.items()
    }

    def mean(figure: str) -> float:
        return sum(float(block[figure]) for block in peers) / len(peers)

    return Peer(
        name="llama.cpp",
        version=f"{DISTRIBUTION} {installed()}",
        file=file.name,
        quantisation=peers[0]["quantisation"],
        size_bytes=file.stat().st_size,
        context_length=context,
        threads=peers[0]["threads"],
        packed_weights=peers[0]["packed"],
        tg128=round(mean("tg128"), 2),
        pp512=round(mean("pp512"), 2),
        load_seconds=round(mean("load_seconds"), 3),
        peak_rss_bytes=max(block["peak_rss_bytes"] for block in peers),
        steady_rss_bytes=round(mean("steady_rss_bytes")),
        ratio={name: found for name, (found, _) in ratios.items()},
        ratio_interval={name: interval for name, (_, interval) in ratios.items()},
        samples=peers,
    )


def serve(file: Path) -> None:
    """The process that is measured: load `file` and do what is asked on stdin, one JSON object a line."""
    import llama_cpp.llama_cpp as llama  # type: ignore[import-not-found, unused-ignore]

    @llama.llama_log_callback  # type: ignore[untyped-decorator, unused-ignore]
    def silent(*_: object) -> None:
        """It would tell stderr every tensor that it loads."""

    llama.llama_log_set(silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = context = None

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal model, context
        try:
            if request["do"] != "load":
                return _rates(llama, model, context, request)
            begin = time.perf_counter()
            model, context = _load(llama, file, request)
            seconds = time.perf_counter() - begin
            name = ctypes.create_string_buffer(128)
            llama.llama_model_desc(model, name, 128)
            return {
                "load_seconds": seconds,
                "quantisation": name.value.decode().split()[-1],
                "threads": request["threads"],
                "packed": request["packed"],
            }
        except (IngotError, RuntimeError) as error:
            return {"error": str(error)}

    json_child.answer(answer)


def _load(llama: Any, file: Path, request: dict[str, Any]) -> tuple[Any, Any]:
    options = llama.llama_model_default_params()
    options.use_extra_bufts = request["packed"]
    model = llama.llama_model_load_from_file(str(file).encode(), options)
    if not model:
        raise IngotError(file, "llama.cpp does not load it", "Leave the comparison out, or give another GGUF")
    options = llama.llama_context_default_params()
    options.n_ctx, options.n_threads, options.n_threads_batch = (request[k] for k in ("context", "threads", "threads"))
    context = llama.llama_init_from_model(model, options)
    if not context:
        raise IngotError(file, f"llama.cpp makes no context of {request['context']} tokens for it")
    return model, context


def _rates(llama: Any, model: Any, context: Any, request: dict[str, Any]) -> dict[str, list[float]]:
    """As `serve._rates`: a prompt of random tokens; tokens one by one after a single one."""
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    draw = random.Random(0)

    def feed(count: int) -> None:
        tokens = (ctypes.c_int32 * count)(*(draw.randrange(vocabulary) for _ in range(count)))
        if code := llama.llama_decode(context, llama.llama_batch_get_one(tokens, count)):
            raise RuntimeError(f"llama_decode ended with {code}")
        llama.llama_synchronize(context)

    found: dict[str, list[float]] = {"prefill_seconds": [], "decode_seconds": []}
    for _ in range(request["times"]):
        for name, prompt, new in (("prefill_seconds", request["prefill"], 0), ("decode_seconds", 1, request["decode"])):
            llama.llama_memory_clear(llama.llama_get_memory(context), True)
            begin = time.perf_counter()
            feed(prompt)
            if new:
                begin = time.perf_counter()
            for _ in range(new):
                feed(1)
            found[name].append(time.perf_counter() - begin)
    return found

"""The process that is measured: it loads one package and does what its parent asks, one JSON line each way.

It holds nothing but the runtime and the model, so that what the parent sees of it from outside (memory, CPU) is what
serving costs. It ends when its stdin does, so it never outlives its parent.

Requests and replies:
    {"do": "load"}                                  -> {"load_seconds"}
    {"do": "count", "prompt": text}                 -> {"prompt_tokens"}, rendered with the template
    {"do": "ask", "prompt": text, "tokens": n}      -> {"prompt_tokens", "completion_tokens", "at_ms": [..], "done_ms"}
    {"do": "listen"}                                -> {"url", "model"}: the OpenAI-compatible endpoint, until the end
    {"do": "rates", "prefill": n, "decode": n, "times": k} -> {"prefill_seconds": [..], "decode_seconds": [..]}
`rates` unloads what is served. `at_ms` are the moments at which the pieces of the answer came, in milliseconds since
the request. A failure is answered with {"error": text}.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from scripts.common.errors import IngotError
from scripts.runtime import genai
from scripts.runtime.foundry import Chat, Runtime

MODEL_ID = "bench-generic-cpu:1"


def serve(package: Path, source: TextIO | None = None, sink: TextIO | None = None) -> None:
    """Answer the requests of `source` on `sink` (stdin and stdout) until they end."""
    sink = sink or sys.stdout
    with ExitStack() as stack:
        chat: Chat | None = None
        for request in _requests(source or sys.stdin):
            reply: dict[str, Any]
            try:
                match request["do"]:
                    case "load":
                        begin = time.perf_counter()
                        runtime = stack.enter_context(Runtime())
                        runtime.register(package, MODEL_ID)
                        chat = runtime.load(MODEL_ID)
                        reply = {"load_seconds": time.perf_counter() - begin}
                    case "ask":
                        assert chat, "asked before it was loaded"
                        reply = _ask(chat, request["prompt"], request["tokens"])
                    case "count":
                        assert chat, "asked before it was loaded"
                        reply = {"prompt_tokens": chat.prompt_tokens(request["prompt"])}
                    case "listen":
                        reply = {"url": stack.enter_context(runtime.serve(MODEL_ID)), "model": MODEL_ID}
                    case "rates":
                        stack.close()  # the serving model goes before the bare one comes
                        reply = _rates(package, request["prefill"], request["decode"], request["times"])
                    case other:
                        raise IngotError("bench child", f"does not know {other!r}")
            except (IngotError, RuntimeError) as error:
                reply = {"error": str(error)}
            print(json.dumps(reply), file=sink, flush=True)


def _requests(source: TextIO) -> Iterator[dict[str, Any]]:
    for line in source:
        yield json.loads(line)


def _ask(chat: Chat, prompt: str, tokens: int) -> dict[str, Any]:
    begin = time.perf_counter()
    stream = chat.stream(prompt, max_tokens=tokens)
    at = [(time.perf_counter() - begin) * 1000 for _ in stream]
    done = (time.perf_counter() - begin) * 1000
    assert stream.answer
    return {
        "prompt_tokens": stream.answer.prompt_tokens,
        "completion_tokens": stream.answer.completion_tokens,
        "at_ms": at,
        "done_ms": done,
    }


def _rates(package: Path, prefill: int, decode: int, times: int) -> dict[str, Any]:
    """llama-bench's two tests: a prompt of `prefill` random tokens; `decode` tokens after a single one.

    With onnxruntime-genai itself: the runtime gives no way to force a length, and the model would stop earlier.
    """
    model = genai.Model(package)
    vocabulary = json.loads((package / "genai_config.json").read_text(encoding="utf-8"))["model"]["vocab_size"]
    draw = random.Random(0)
    found: dict[str, list[float]] = {"prefill_seconds": [], "decode_seconds": []}
    for name, prompt, new in (("prefill_seconds", prefill, 0), ("decode_seconds", 1, decode)):
        for _ in range(times):
            generation = model.generation(prompt + new + 1, fixed=True)  # so every model decodes as many
            tokens = [draw.randrange(vocabulary) for _ in range(prompt)]
            begin = time.perf_counter()
            generation.append(tokens)
            if new:
                begin = time.perf_counter()
            for _ in range(new):
                generation.step()
            found[name].append(time.perf_counter() - begin)
            del generation
    return found

"""The process that is measured: it loads one package and does what its parent asks, one JSON line each way.

It holds nothing but the runtime and the model, so that what the parent sees of it from outside (memory, CPU) is what
serving costs. It ends when its stdin does, so it never outlives its parent.

Requests and replies:
    {"do": "load"}                                  -> {"load_seconds"}
    {"do": "count", "prompt": text}                 -> {"prompt_tokens"}, rendered with the template
    {"do": "ask", "prompt": text, "tokens": n}      -> {"prompt_tokens", "completion_tokens", "at_ms": [..], "done_ms"}
    {"do": "listen"}                                -> {"url", "model"}: the OpenAI-compatible endpoint, until the end
    {"do": "rates", "prefill": n, "decode": n, "times": k} -> {"prefill_seconds": [..], "decode_seconds": [..]}
    {"do": "bandwidth", "threads": n}               -> {"bytes_per_second"}: reading memory in order
`rates` unloads what is served. `at_ms` are the moments at which the pieces of the answer came, in milliseconds since
the request. A failure is answered with {"error": text}.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from scripts.bench import roofline
from scripts.common import genai_config, json_child
from scripts.common.errors import IngotError
from scripts.runtime import genai
from scripts.runtime.foundry import Chat, Runtime

MODEL_ID = "bench-generic-cpu:1"


def serve(package: Path) -> None:
    """Answer the requests of standard input until they end."""
    with _Server(package) as server:
        json_child.answer(server.answer)


class _Server:
    """The runtime, with the package in it once it was asked to load."""

    def __init__(self, package: Path) -> None:
        self._package, self._stack = package, ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request; an error is one too."""
        try:
            match request["do"]:
                case "load":
                    return self._load()
                case "ask":
                    return _ask(self._chat, request["prompt"], request["tokens"])
                case "count":
                    return {"prompt_tokens": self._chat.prompt_tokens(request["prompt"])}
                case "listen":
                    return {"url": self._stack.enter_context(self._runtime.serve(MODEL_ID)), "model": MODEL_ID}
                case "rates":
                    self._stack.close()  # the serving model goes before the bare one comes
                    return _rates(self._package, request["prefill"], request["decode"], request["times"])
                case "bandwidth":
                    self._stack.close()
                    return {"bytes_per_second": roofline.read_bandwidth(request["threads"])}
                case other:
                    raise IngotError("bench child", f"does not know {other!r}")
        except (IngotError, RuntimeError) as error:
            return {"error": str(error)}

    def _load(self) -> dict[str, Any]:
        begin = time.perf_counter()
        self._runtime = self._stack.enter_context(Runtime())
        self._runtime.register(self._package, MODEL_ID)
        self._chat = self._runtime.load(MODEL_ID)
        return {"load_seconds": time.perf_counter() - begin}


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
    vocabulary = genai_config.read(package)["model"]["vocab_size"]
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

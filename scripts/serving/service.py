"""`doit serve`: deployed models behind the runtime's OpenAI-compatible HTTP service, until Ctrl-C.

The models are loaded before the service listens. So a client is either refused a connection or answered: `GET
<base_url>/models` succeeds when, and only when, they are ready.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.common.errors import IngotError
from scripts.runtime.foundry import Runtime
from scripts.serving import clients
from scripts.serving.place import Model

_POLL = 0.1  # seconds


def serve(models: Sequence[Model], cache: Path, port: int) -> None:
    """Load the models, serve them, and print how to ask them; returns after Ctrl-C or SIGTERM.

    `port`: 0 for a free one. Raises `IngotError` where the port is taken or a model does not load.
    """
    if port:
        _check_free(port)
    with _stop_asked() as stop, Runtime(cache, port=port) as runtime:
        for model in models:
            print(f"loading {model.id}", flush=True)
            runtime.load(model.id)
            if stop:
                return
        with runtime.serve(*(model.id for model in models)) as url:
            print(told(url, models), flush=True)
            while not stop:
                time.sleep(_POLL)
            print("stopping", flush=True)


def told(base_url: str, models: Sequence[Model]) -> str:
    """What a user copies; the line that says "ready" is the last."""
    first = models[0].id
    lines = [f"base_url: {base_url}", *(f"model:    {model.id}" for model in models), ""]
    for title, text in (
        ("Shell:", clients.curl(base_url, first)),
        ("Python (pip install openai):", clients.python(base_url, first)),
        ("JavaScript (Node 18 or newer, as a file that ends in .mjs):", clients.javascript(base_url, first)),
    ):
        lines += [title, textwrap.indent(text, "  "), ""]
    lines.append("A model is asked for by its whole id, number included. Nobody but this machine is answered.")
    lines.append(f"ready: {base_url}/models answers from now on; Ctrl-C ends it")
    return "\n".join(lines)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # Elsewhere a port of a connection that has just ended counts as taken; on Windows it would take one over.
        option = getattr(socket, "SO_EXCLUSIVEADDRUSE", None) if os.name == "nt" else socket.SO_REUSEADDR
        probe.setsockopt(socket.SOL_SOCKET, option or socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE or getattr(error, "winerror", None) == 10048
            found = "another program listens there" if taken else (error.strerror or str(error))
            raise IngotError(f"port={port}", found, "Name another port, or leave it out for a free one") from None


@contextmanager
def _stop_asked() -> Iterator[list[int]]:
    """The signals that came, Ctrl-C and SIGTERM, instead of what they do elsewhere.

    A list, and no Event: that takes a lock to be set, which is held where a signal comes while another is handled.
    """
    stop: list[int] = []
    before = {
        number: signal.signal(number, lambda come, _: stop.append(come)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

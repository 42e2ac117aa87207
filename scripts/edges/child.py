"""The process that `edges` may lose: it opens the runtime and asks through Ingot's client, one JSON line each way.

    {"do": "open", "cache": path, "id": id}                 -> {"url": base URL of the model's HTTP service}
    {"do": "ask", "messages", "options", "leave": n | null} -> an answer: {"kind": "answer", "text", "prompt_tokens"}
                                                               Ingot or the runtime refused: {"kind": "refused",
                                                               "text", "by": "ingot" | "runtime"}
                                                               anything else was raised: {"kind": "raised", "text"}
    {"do": "count", "messages"}                             -> {"tokens": n}, or as `ask` where that fails

With `leave`, the answer is streamed, and left after so many pieces. Each request has a `limit` in seconds: after it,
every thread's stack goes to standard error and the process ends. A crash leaves its stack there as well.
"""

from __future__ import annotations

import faulthandler
import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from scripts.common import json_child, lifeline
from scripts.runtime.chat import Answer, RuntimeFault
from scripts.runtime.foundry import Runtime


def main(opener: Callable[[Path], Any] = Runtime) -> None:
    """Serve the requests of standard input until it ends. `opener`: what stands in for the runtime."""
    lifeline.hold()
    faulthandler.enable()
    with ExitStack() as stack:
        chat: Any = None

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            nonlocal chat
            faulthandler.dump_traceback_later(request["limit"], exit=True)
            try:
                if request["do"] != "open":
                    return _tried(lambda: _asked(chat, request))
                runtime = stack.enter_context(opener(Path(request["cache"])))
                if request["id"] not in runtime.cached():
                    raise RuntimeFault(request["id"], f"is not listed in {request['cache']}", "Deploy it again")
                chat = runtime.load(request["id"])
                return {"url": stack.enter_context(runtime.serve(request["id"]))}
            finally:
                faulthandler.cancel_dump_traceback_later()

        json_child.answer(answer)


def _asked(chat: Any, request: dict[str, Any]) -> dict[str, Any]:
    messages, options = request["messages"], request.get("options", {})
    if request["do"] == "count":
        return {"tokens": chat.prompt_tokens(messages)}
    if request.get("leave") is None:
        answer: Answer = chat.complete(messages, **options)
        return {"kind": "answer", "text": answer.text, "prompt_tokens": answer.prompt_tokens}
    pieces = list(itertools.islice(chat.stream(messages, **options), request["leave"]))
    return {"kind": "answer", "text": "".join(pieces)}


def _tried(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return ask()
    except RuntimeFault as fault:
        # What the client itself refuses has no cause; what the SDK raised is that fault's cause.
        return {"kind": "refused", "text": fault.found, "by": "runtime" if fault.__cause__ else "ingot"}
    except Exception as error:  # noqa: BLE001 - that there is one is what we are here to find
        return {"kind": "raised", "text": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()

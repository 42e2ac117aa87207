"""A labelled stand-in for the runtime, run in the place of `scripts.edges.child`, that breaks when told to.

It answers every text with "fine"; one that begins with one of the words below makes it do that, in Ingot's client
("session") or in its HTTP service. It proves what `edges` makes of a broken runtime, and nothing about the real one.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from scripts.edges import child
from scripts.runtime.chat import Answer, RuntimeFault

#: Code that faulthandler sees in the file of Ingot's client: a hang of Ingot's.
OUR_HANG = compile("while True: pass", str(Path(child.__file__).with_name("chat.py")), "exec")


class FakeChat:
    worse = False
    replies = sys.stdout

    def complete(self, messages: Any, **_: Any) -> Answer:
        text = messages[0]["content"]
        match text.partition(" ")[0]:
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(7)
            case "hang":
                while True:
                    time.sleep(1)
            case "our-hang":
                exec(OUR_HANG)
            case "raise":
                raise KeyError("role")
            case "refuse":
                try:
                    raise RuntimeError("no")
                except RuntimeError as error:
                    raise RuntimeFault("fake", "the runtime says no") from error
            case "client":
                raise RuntimeFault("fake", "Ingot's client says no")
            case "garbage":
                print("<html>", file=self.replies, flush=True)
            case "worse":
                FakeChat.worse = True
            case "busy":
                threading.Thread(target=lambda: exec("while True: pass"), daemon=True).start()
        return Answer("worse" if FakeChat.worse else "fine", "stop", len(text), 1, 0.0)

    def prompt_tokens(self, messages: Any) -> int:
        return len(messages[0]["content"])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text, model, status = asked["messages"][0]["content"], asked["model"], 200
        match text.partition(" ")[0]:
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
                time.sleep(60)  # the signal may go to another thread first
            case "hang":
                time.sleep(60)
            case "refuse":
                status = 400
            case "error":
                status = 500
            case "cut":
                self.connection.close()
                return
            case "other":
                model = "other:1"
        reply = {"model": model, "choices": [{"message": {"content": "fine"}}], "usage": {"prompt_tokens": len(text)}}
        data = json.dumps(reply if status == 200 else {"error": {"message": "bad"}}).encode()
        if text.startswith("nonsense"):
            data = b"[]"
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class FakeRuntime:
    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def __enter__(self) -> Self:
        if (self.cache / "broken").exists():
            raise RuntimeFault("fake", "does not start")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cached(self) -> list[str]:
        return ["fake:1"]

    def load(self, _: str) -> FakeChat:
        return FakeChat()

    @contextmanager
    def serve(self, _: str) -> Iterator[str]:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"


if __name__ == "__main__":
    FakeChat.replies = os.fdopen(os.dup(1), "w")  # the child points 1 elsewhere
    child.main(FakeRuntime)
    sys.exit(0)

"""The two clients by which `edges` reaches a deployed model, from outside: a child that asks by Ingot's, and HTTP.

Both answer with a `Reply`, whatever happens: also where the child crashed or hung, which it then pays for.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from scripts.common.errors import IngotError
from scripts.common.json_child import ROOT, ClosedError, GarbledError, JsonChild, SilentError
from scripts.edges import child
from scripts.runtime.chat import plain

_OPEN_SECONDS, _GRACE = 300.0, 5.0
_DYING_SECONDS = 2.0  # between a connection that breaks and the end of its process
_STARTS = 3  # in a row, before the model is given up
_IDLE_AFTER, _IDLE_FOR, _IDLE_SHARE = 0.5, 1.0, 0.1  # seconds; of one core, which neighbours may be using too


@dataclass(frozen=True)
class Reply:
    """What came back.

    kind           answer | refused | raised (an exception that is not a `RuntimeFault`) | garbage | error (HTTP 5xx) |
                   broken (no HTTP response) | other model | hung | crashed
    by             who refused, hung or crashed: "ingot" is this project's code, "runtime" is not
    """

    kind: str
    text: str = ""
    by: str = "runtime"
    prompt_tokens: int | None = None

    def __str__(self) -> str:
        text = " ".join(self.text.split())
        text = repr(text if len(text) <= 160 else text[:159] + "…") if self.kind == "answer" else text[:400]
        return f"{self.kind}: {text}" if text else self.kind


@dataclass
class Server:
    """The child: opened when first asked, and opened anew after it crashed or hung."""

    cache: Path
    model_id: str
    command: Sequence[str] = (sys.executable, "-m", child.__name__)
    restarts: int = field(default=-1, init=False)
    _child: JsonChild | None = field(default=None, init=False)
    _url: str = field(default="", init=False)

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="edges-", ignore_cleanup_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._scratch.cleanup()

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any] | Reply:
        """The child's reply to a request; a `Reply` where there is none."""
        self.start()
        return self._exchange(request, limit)

    def url(self) -> str:
        """Base URL of the model's HTTP service."""
        self.start()
        return self._url

    def start(self) -> None:
        """Have a child that serves the model. Raises `IngotError` if none comes up."""
        if self._child:
            return
        self.restarts += 1
        for _ in range(_STARTS):
            self._spawn()
            request = {"do": "open", "cache": str(self.cache), "id": self.model_id}
            reply = self._exchange(request, _OPEN_SECONDS)
            if isinstance(reply, dict) and "url" in reply:
                self._url = reply["url"]
                return
            self.end()
        raise IngotError(self.model_id, f"cannot be opened in {self.cache}: {reply}", "Run `doit verify` for it")

    def end(self) -> None:
        """Kill the child, if there is one; the next request starts another."""
        if gone := self._child:
            self._child = None
            gone.end()

    def is_idle(self) -> bool:
        """Whether the child rests: nobody asks it anything, so nothing should be running in it."""
        if not self._child:
            return True
        time.sleep(_IDLE_AFTER)
        outside = psutil.Process(self._child.pid)
        before = outside.cpu_times()
        time.sleep(_IDLE_FOR)
        after = outside.cpu_times()
        return bool(after.user + after.system - before.user - before.system < _IDLE_SHARE * _IDLE_FOR)

    def died(self) -> Reply | None:
        """How the child ended, if it did so within a moment; its next request starts another."""
        assert self._child
        code = self._child.code(_DYING_SECONDS)
        if code is None:
            return None
        said = self._errors.read_text(encoding="utf-8", errors="replace")
        self.end()
        if "Timeout (" in said:
            return Reply("hung", "no reply in time", blame(said))
        if code == 1:  # a Python exception that the child did not expect
            return Reply("raised", (said.strip().splitlines() or ["ended with 1"])[-1], "ingot")
        return Reply("crashed", f"the process ended with {code}", blame(said))

    def _spawn(self) -> None:
        scratch = self._scratch.name
        self._errors = Path(scratch) / "errors.log"
        self._child = JsonChild(
            self.command, env=dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch), errors=self._errors
        )  # fmt: skip

    def _exchange(self, request: dict[str, Any], limit: float) -> dict[str, Any] | Reply:
        assert self._child
        try:
            return self._child.ask({**request, "limit": limit}, limit + _GRACE)
        except SilentError:  # not even its watchdog woke up
            self.end()
            return Reply("hung", f"no reply in {limit:.0f} s")
        except ClosedError as error:
            return self.died() or self._nonsense(str(error))
        except GarbledError as error:
            return self._nonsense(str(error))

    def _nonsense(self, line: str) -> Reply:
        self.end()
        return Reply("garbage", line, "ingot")


def blame(said: str) -> str:
    """Whose code a child that was stopped or crashed was in: of `faulthandler`'s report, the innermost frame of the
    main thread that is not Python's own library. "ingot" if it is of this project, else "runtime".
    """
    library = sysconfig.get_paths()["stdlib"]
    for thread in re.split(r"\n\s*\n", said):
        files = re.findall(r'^  File "(.+)", line', thread, re.MULTILINE)
        if not any(Path(file).stem == "child" for file in files):
            continue
        own = [file for file in files if "site-packages" in file or not file.startswith((library, "<"))]
        return "ingot" if own and Path(own[0]).is_relative_to(ROOT / "scripts") else "runtime"
    return "runtime"


# --- HTTP


def post(
    url: str,
    model_id: str,
    body: bytes,
    *,
    limit: float,
    leave: int | None = None,
    gone_after: float | None = None,
    path: str = "/chat/completions",
    method: str = "POST",
) -> Reply:
    """Send `body` as it is. With `leave`, the reply is read as a stream, up to so many pieces of text; with
    `gone_after`, the client leaves after so many seconds, whatever came.
    """
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=gone_after or limit)
    until = time.monotonic() + limit
    try:
        connection.request(method, place.path + path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status == http.client.OK and leave is not None:
            return _streamed(response, leave, until)
        return _read_response(response.status, response.read(), model_id)
    except TimeoutError:
        return Reply("answer", "the client left") if gone_after else Reply("hung", f"no reply in {limit:.0f} s")
    except (OSError, http.client.HTTPException) as error:
        return Reply("broken", f"{type(error).__name__}: {error}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Reply("error", f"a stream with {type(error).__name__}: {error}")
    finally:
        connection.close()


def _read_response(status: int, data: bytes, model_id: str) -> Reply:
    text = data.decode("utf-8", "replace")
    if status >= http.client.INTERNAL_SERVER_ERROR:
        return Reply("error", f"HTTP {status}: {text}")
    if status != http.client.OK:
        return Reply("refused", f"HTTP {status}: {_message(text)}")
    try:
        value = json.loads(text)
        content, model = value["choices"][0]["message"]["content"], value["model"]
        if model != model_id:
            return Reply("other model", str(model))
        return Reply("answer", content or "", prompt_tokens=value["usage"]["prompt_tokens"])
    except (ValueError, KeyError, IndexError, TypeError):
        return Reply("error", f"HTTP 200 with {text!r}")


def _streamed(response: http.client.HTTPResponse, leave: int, until: float) -> Reply:
    """Server-sent events: `data: {JSON}` lines, the last of them `data: [DONE]`."""
    pieces: list[str] = []
    while len(pieces) < leave and (line := response.readline()):
        if time.monotonic() > until:
            return Reply("hung", "the stream went on without a piece of text")
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        value = json.loads(line[6:])
        if "error" in value:
            return Reply("refused", _message(line[6:].decode("utf-8", "replace")))
        pieces += [piece for choice in value["choices"] if (piece := choice["delta"].get("content"))]
    return Reply("answer", "".join(pieces))


def _message(text: str) -> str:
    try:
        return plain(str(json.loads(text)["error"]["message"]))
    except (ValueError, KeyError, TypeError):
        return text

"""Headless Chromium for a test, driven by its DevTools protocol over a pair of pipes: no port, no driver, no library.

Messages are JSON, each ended by a NUL, on file descriptors 3 (in) and 4 (out): `--remote-debugging-pipe`.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scripts.report import picture

_SECONDS = 60
#: Become Chromium with the two ends under the numbers that it wants, which may be taken: away first, then into place.
_EXEC = (
    "import os, sys; "
    "[os.dup2(int(end), 100 + i) for i, end in enumerate(sys.argv[1:3])]; os.dup2(100, 3); os.dup2(101, 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """One page, with the network off and every request, console message and error noted in `events`."""

    def __init__(self) -> None:
        chromium = picture.find()  # says what to install
        self._home = tempfile.mkdtemp(prefix="ingot-chromium-")
        to_child, self._out = os.pipe()
        self._in, from_child = os.pipe()
        words = [chromium, *picture.flags(), "--remote-debugging-pipe", f"--user-data-dir={self._home}", "about:blank"]
        start = [sys.executable, "-c", _EXEC, str(to_child), str(from_child), *words]
        self._child = subprocess.Popen(
            start, pass_fds=(to_child, from_child), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "HOME": self._home},
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        self._number, self._rest, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        pages = self.send("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._out)  # Chromium ends with the pipe
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        os.close(self._in)
        shutil.rmtree(self._home, ignore_errors=True)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result; events on the way are noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            got = self._receive()
            if got.get("id") == self._number:
                assert "error" not in got, f"{method}: {got['error']}"
                result: dict[str, Any] = got["result"]
                return result
            self.events.append(got)

    def open(self, page: Path) -> None:
        """Show a file, and wait until it is loaded."""
        self.events.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def window(self, width: int, height: int = 900) -> None:
        """How large the window is, in pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, *, scheme: str = "light", medium: str = "screen") -> None:
        """Light or dark, screen or print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=medium, features=features)

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression, in the page. DevTools may ask even where pages may not run scripts."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def shot(self, file: Path) -> None:
        """A picture of the whole page."""
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"Chromium said nothing for {_SECONDS} s"
            got = os.read(self._in, 1 << 20)
            assert got, f"Chromium ended: exit code {self._child.poll()}"
            self._rest += got
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

"""What a person sees while a build runs: one living line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time

_HEARTBEAT = 20.0
_COLOURS = {"good": "32", "bad": "31", "dim": "2"}


class Progress:
    """Thread-safe; writes to standard output."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, str]] = {}
        self._beat = 0.0
        self.live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.colours = self.live and "NO_COLOR" not in os.environ

    def begin(self, name: str) -> None:
        """A step starts."""
        with self._lock:
            self._running[name] = (time.monotonic(), "")
            self._beat = time.monotonic()

    def said(self, name: str, line: str) -> None:
        """The newest line that a step printed; shown in place on a terminal, every 20 s elsewhere."""
        with self._lock:
            since = self._running.get(name, (time.monotonic(), ""))[0]
            self._running[name] = (since, line)
            now = time.monotonic()
            if self.live:
                self._redraw(now)
            elif now - self._beat >= _HEARTBEAT:
                self._beat = now
                self._write(f"  … {name}, {now - since:.0f} s: {line}")

    def end(self, name: str) -> None:
        """A step has ended."""
        with self._lock:
            self._running.pop(name, None)

    def note(self, text: str, colour: str | None = None) -> None:
        """A line that stays."""
        with self._lock:
            paint = self.colours and colour
            self._write(f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if paint and colour else text)

    def _redraw(self, now: float) -> None:
        parts = [
            f"{name} {now - since:.0f} s" + (f": {line}" if line else "")
            for name, (since, line) in self._running.items()
        ]
        text = "  … " + " | ".join(parts)
        self._put("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        self._put(("\r\x1b[K" if self.live else "") + text + "\n")

    @staticmethod
    def _put(text: str) -> None:
        encoding = sys.stdout.encoding or "utf-8"
        try:
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
            sys.stdout.flush()
        except (OSError, ValueError):  # `doit | head`, a full disk: what is built matters more than who reads of it
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())  # for good: also for the flush when Python ends
                os.close(nowhere)

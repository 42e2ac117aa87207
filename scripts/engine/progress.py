"""What a person sees while a build runs: living lines on a terminal, plain ones elsewhere."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from scripts.common import terminal, visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_HEARTBEAT = 20.0
_COLOURS = {"good": "green", "bad": "red", "dim": "dim"}


class Progress:
    """Thread-safe; writes to standard output."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, str]] = {}
        self._beat = 0.0
        self._live: Live | None = None
        self.on_terminal = terminal.obeys(sys.stdout)  # with NO_COLOR rich alone would still write what is dim

    def begin(self, name: str) -> None:
        """A step starts."""
        with self._lock:
            self._running[name] = (time.monotonic(), "")
            self._beat = time.monotonic()
            if self.on_terminal and self._live is None:
                self._live = self._start()

    def said(self, name: str, line: str) -> None:
        """The newest line that a step printed; shown in place on a terminal, every 20 s elsewhere."""
        line = visible.line(line)
        with self._lock:
            now = time.monotonic()
            since = self._running.get(name, (now, ""))[0]
            self._running[name] = (since, line)
            if self._live is None and now - self._beat >= _HEARTBEAT:
                self._beat = now
                self._put(f"  … {name}, {now - since:.0f} s: {line}\n")

    def end(self, name: str) -> None:
        """A step has ended."""
        with self._lock:
            self._running.pop(name, None)
            if not self._running:
                self._stop()

    def note(self, text: str, colour: str | None = None) -> None:
        """A line that stays; on a terminal it wraps between words."""
        text = terminal.fitted(visible.visible(text), terminal.columns(sys.stdout))
        with self._lock:
            if self.on_terminal and (self._live or colour):
                from rich.console import Console
                from rich.text import Text

                console = self._live.console if self._live else Console(highlight=False)
                console.print(Text(text, style=_COLOURS.get(colour or "", "")), soft_wrap=True)
            else:
                self._put(text + "\n")

    def _start(self) -> Live:
        # Here, because importing rich takes as long as a whole run that has nothing to do.
        from rich.console import Console
        from rich.live import Live

        live = Live(console=Console(), get_renderable=self._lines, refresh_per_second=5, transient=True)
        live.start()
        live.console.show_cursor(True)  # a killed build must not leave the terminal without one
        atexit.register(live.stop)
        return live

    def _stop(self) -> None:
        if self._live:
            atexit.unregister(self._live.stop)
            self._live.stop()
            self._live = None

    def _lines(self) -> RenderableType:
        """One line a running step. Called by rich's own thread, under rich's lock: it must not wait for `_lock`."""
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        table.add_column()
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        now = time.monotonic()
        for name, (since, line) in list(self._running.items()):
            frame = Spinner("dots").render(now)
            table.add_row(frame, name, f"{now - since:.0f} s", Text(line, style="dim"))
        return table

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

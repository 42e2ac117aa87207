"""A program in a pseudo-terminal, and what it drew there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Colours, cursor movements and titles: all that a terminal obeys and does not show.
ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")


@dataclass(frozen=True)
class Drawn:
    """How a program ended, and every byte that it sent to its terminal."""

    code: int
    raw: str

    @property
    def text(self) -> str:
        """Without escape codes; a line that was drawn again stands there again."""
        return ESCAPE.sub("", self.raw).replace("\r\n", "\n").replace("\r", "\n")

    @property
    def widest(self) -> str:
        """The longest line."""
        return max(self.text.splitlines(), key=len, default="")


def run(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, columns: int = 80, seconds: float = 120
) -> Drawn:
    """Run a program in a terminal of so many columns and 24 lines, to its end."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in (env or os.environ).items() if name not in ("COLUMNS", "LINES", "CI")}
    child = subprocess.Popen(
        list(words), cwd=cwd, env={"TERM": "xterm-256color", **environment}, stdin=its, stdout=its, stderr=its,
        start_new_session=True,
    )  # fmt: skip
    os.close(its)
    drawn, end = b"", time.monotonic() + seconds
    try:
        while select.select([ours], [], [], max(0.0, end - time.monotonic()))[0]:
            try:
                got = os.read(ours, 1 << 16)
            except OSError:  # Linux's way to say that nobody holds the other end
                got = b""
            if not got:
                break
            drawn += got
        return Drawn(child.wait(max(0.1, end - time.monotonic())), drawn.decode("utf-8", "replace"))
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def doit(*words: str, cwd: Path, env: Mapping[str, str] | None = None, columns: int = 80) -> Drawn:
    """doit in a terminal."""
    return run([sys.executable, "-m", "doit", *words], cwd=cwd, env=env, columns=columns)

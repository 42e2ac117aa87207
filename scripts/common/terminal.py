"""What is written for people: lines that fit the terminal, colours where they are wanted; a file gets neither."""

from __future__ import annotations

import os
import shutil
import textwrap
from typing import TextIO


def obeys(stream: TextIO) -> bool:
    """Whether escape codes may be written: to a terminal that knows them, unless NO_COLOR is set."""
    knows = os.name == "nt" or os.environ.get("TERM", "") not in ("", "dumb")
    return stream.isatty() and knows and not os.environ.get("NO_COLOR")


def columns(stream: TextIO) -> int:
    """How wide the terminal is; 0 where there is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text of so many columns; a path stays whole, to be copied. Without a width it is one line."""
    if not width:
        return [text]
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]


def fitted(text: str, width: int) -> str:
    """A text whose long lines are wrapped, the rest of each two columns further in."""
    lines = []
    for line in text.split("\n"):
        if not width or len(line) <= width:
            lines.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        first, *rest = wrapped(line.strip(), width - len(indent) - 2)
        lines += [indent + first, *(f"{indent}  {more}" for more in rest)]
    return "\n".join(lines)

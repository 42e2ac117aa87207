"""Lines that fit the terminal they are for; in a pipe or a file each stays one line."""

from __future__ import annotations

import shutil
import textwrap
from typing import TextIO


def columns(stream: TextIO) -> int:
    """How wide the terminal is; 0 where there is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def fitted(text: str, width: int) -> str:
    """The text with its long lines wrapped, the rest of each below its words; a path stays whole, to be copied."""
    return "\n".join(_wrapped(line, width) if width and len(line) > width else line for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(), width, initial_indent=indent, subsequent_indent=f"{indent}  ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip

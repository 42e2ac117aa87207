"""What the doctor finds, a line for each thing."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.common import terminal

_COLOURS = {"ok": "32", "warn": "33", "bad": "31"}


@dataclass(frozen=True)
class Line:
    """One finding. `status` is "ok", "warn" (works without) or "bad" (needed); `remedy` is empty if all is well."""

    status: str
    what: str
    found: str
    remedy: str = ""


def render(lines: list[Line], colours: bool, columns: int = 0) -> str:
    """The findings as text, with the remedy below where there is one; wrapped to so many columns, if any."""
    width = max(len(line.what) for line in lines)
    beside = " " * (width + 8)
    rows = []
    for line in lines:
        mark = f"{line.status:4}"
        mark = f"\x1b[{_COLOURS[line.status]}m{mark}\x1b[0m" if colours else mark
        told = [
            part for text in (line.found, line.remedy) if text
            for part in terminal.wrapped(text, columns and columns - len(beside))
        ] or [""]  # fmt: skip
        rows += [f"{mark}  {line.what:{width}}  {told[0]}", *(beside + part for part in told[1:])]
    return "\n".join(rows)


def gigabytes(size: int) -> str:
    """Bytes, in words."""
    return f"{size / 1e9:.1f} GB"

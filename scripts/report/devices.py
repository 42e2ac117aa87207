"""What is said of a precision that is made for another device than the one that serves here, once it was run on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from scripts.definitions.passes import HERE
from scripts.results.report import Precision

GOOD = ("passed", "warned")


def told(row: Precision) -> Precision:
    """The row with what was seen of it on its device (`doit device:…`), in place of "not run here"."""
    seen = row.device
    if row.target == HERE or row.verdict != "skipped" or seen is None or "device" in row.stale:
        return row
    if seen.verdict not in GOOD:
        return replace(row, verdict=seen.verdict, reasons=seen.reasons)
    answers = f", {seen.alike} of {seen.cases} answers as on the CPU" if seen.cases else ""
    found = f"run on {seen.device}: KL {seen.kl:.2g} over {seen.positions} positions{answers}; not deployed here"
    return replace(row, reasons=[found, *seen.reasons])


def ran(entry: Mapping[str, Any]) -> bool:
    """Whether a row of report.json was seen to run on its device, as it is now."""
    return (entry.get("device") or {}).get("verdict") in GOOD and "device" not in entry["stale"]

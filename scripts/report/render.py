"""The report in all its forms, from one result: report.json, report.md, junit.xml, index.html and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from scripts.report import changes, collect, junit, page, text
from scripts.results import base
from scripts.results import report as results
from scripts.results.report import Changes, Report


def render(
    build: Path,
    models: Any,
    accepted: Path | None,
    environment: dict[str, Any] | None,
    output: Path,
    options: Sequence[str] | None = None,
) -> Report:
    """Write every form of the report of `build` into the new folder `output`; returns the content of report.json.

    Raises `IngotError` on a result, or an accepted report, that can't be read.
    """
    report = collect.collect(build, models, environment, options)
    if accepted:
        kept = results.accepted(accepted)
        entries = changes.compare(base.plain(kept.report), base.plain(report))
        report = replace(report, changes=Changes(accepted_at=kept.accepted_at, note=kept.note, entries=entries))
    output.mkdir(parents=True)
    base.write(output / "report.json", report)
    told = base.plain(report)
    for name, content in (
        ("report.md", text.markdown(told)),
        ("table.txt", text.text(told)),
        *((f"table.{width}.txt", text.text(told, width)) for width in text.WIDTHS),
        ("index.html", page.page(told)),
        ("junit.xml", junit.junit(told)),
    ):
        (output / name).write_text(content, encoding="utf-8", newline="\n")
    return report

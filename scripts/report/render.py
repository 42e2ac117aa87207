"""The report in all its forms, from one dict: report.json, report.md, index.html and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.report import changes, collect, page, text


def render(
    build: Path, models: Any, accepted: Path | None, environment: dict[str, Any] | None, output: Path
) -> dict[str, Any]:
    """Write every form of the report of `build` into the new folder `output`; returns the content of report.json.

    Raises `IngotError` on a result, or an accepted report, that can't be read.
    """
    report = collect.collect(build, models, environment)
    report["changes"] = None
    if accepted:
        kept = collect.accepted(accepted)
        entries = changes.compare(kept["report"], report)
        report["changes"] = {"accepted_at": kept["accepted_at"], "note": kept["note"], "entries": entries}
    output.mkdir(parents=True)
    json_files.write(output / "report.json", report)
    for name, content in (
        ("report.md", text.markdown(report)),
        ("table.txt", text.text(report)),
        ("index.html", page.page(report)),
    ):
        (output / name).write_text(content, encoding="utf-8", newline="\n")
    return report

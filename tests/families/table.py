"""The table of families in the README, from a run of every one: `python -m tests.families.table FIGURES [README]`.

FIGURES is a file of JSON lines, one a family. Families that it lacks are run and added to it, so that an interrupted
run goes on; then the table is written between its marks in README.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.families import checkpoints, measure

BEGIN, END = "<!-- families: begin -->\n", "<!-- families: end -->\n"


def run(name: str) -> dict[str, Any]:
    """The figures of one family, or the reason why it did not come through."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        result = measure.judged_export(name, folder)
        figures: dict[str, Any] = {"name": name, "export": result.worst, "verdict": result.export.verdict}
        try:
            measure.judged_precisions(folder, result)
            measure.answered(folder, result)
            figures["answers"] = True
        except Exception as error:  # noqa: BLE001 - whatever stops it is what the table says
            figures |= {"answers": False, "reason": " ".join(str(error).split())[-300:]}
        return figures | result.kl


def render(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = ["| family | class | export | int8 | int4 | answers |", "|---|---|---|---|---|---|"]
    by_name = {row["name"]: row for row in rows}
    for name, family in checkpoints.FAMILIES.items():
        if family.refused:
            lines.append(f"| {name} | {family.architecture} | refused: {family.refused} | | | |")
        elif row := by_name.get(name):
            cells = [f"{row[key]:.0e}" if key in row else "" for key in ("export", "int8", "int4")]
            answers = {True: "yes", False: "no", None: ""}[row.get("answers")]
            lines.append(f"| {name} | {family.architecture} | {' | '.join(cells)} | {answers} |")
    return "\n".join(lines) + "\n"


def main(figures: Path, readme: Path | None) -> None:
    """Run what `figures` lacks, and put the table into `readme`."""
    rows = [json.loads(line) for line in figures.read_text().splitlines()] if figures.exists() else []
    for name, family in checkpoints.FAMILIES.items():
        if not family.refused and name not in {row["name"] for row in rows}:
            rows.append(run(name))
            with figures.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    if readme is None:
        print(render(rows))
        return
    text = readme.read_text(encoding="utf-8")
    start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
    readme.write_text(text[:start] + render(rows) + text[stop:], encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

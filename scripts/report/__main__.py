"""Render the results of a build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.engine import files, stage

app = stage.program(__doc__)


@app.command()
def render(
    build: Annotated[Path, typer.Option(help="folder that was built into")],
    models: Annotated[
        Any, typer.Option(parser=stage.parse_json, metavar="JSON", help='[{"name": …, "precisions": [name, …]}, …]')
    ],
    output: Annotated[Path, typer.Option(help="folder to write report.json, report.md and table.txt to")],
    environment: Annotated[
        Any, typer.Option(parser=stage.parse_json, metavar="JSON", help="adds to the environment that is reported")
    ] = "null",
) -> None:
    """Write report.json, report.md and the table, and print that."""
    from scripts.report import collect, render

    report = collect.collect(build, models, environment)
    output.mkdir(parents=True)
    files.write_json(output / "report.json", report)
    (output / "report.md").write_text(render.markdown(report), encoding="utf-8", newline="\n")
    (output / "table.txt").write_text(render.text(report), encoding="utf-8", newline="\n")
    render.show(report)


@app.command()
def show(report: Annotated[Path, typer.Option(help="a report.json")]) -> None:
    """Print the table of a report again."""
    from scripts.report import render

    render.show(files.read_json(report))


if __name__ == "__main__":
    stage.main(app)

"""Render the results of a build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.common import program, terminal
from scripts.results import base

app = program.program(__doc__)


@app.command()
def render(
    build: Annotated[Path, typer.Option(help="folder that was built into")],
    models: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help='[{"name": …, "precisions": [name, …]}, …]')
    ],
    output: Annotated[Path, typer.Option(help="folder to write every form of the report to")],
    accepted: Annotated[Path | None, typer.Option(help="what `doit accept` kept, to compare with")] = None,
    environment: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help="adds to the environment that is reported")
    ] = "null",
    options: Annotated[
        Any,
        typer.Option(parser=program.parse_json, metavar="JSON", help='variables of doit: ["config=DIR", …]'),
    ] = "null",
) -> None:
    """Write report.json, report.md, index.html and the table, and print that."""
    from scripts.report import render, text

    print(
        text.text(
            base.plain(render.render(build, models, accepted, environment, output, options)),
            terminal.columns(sys.stdout),
        ),
        end="",
    )


@app.command()
def picture(
    report: Annotated[Path, typer.Option(help="an index.html")],
    output: Annotated[Path, typer.Option(help="the PNG to write")],
    width: Annotated[int, typer.Option(help="of the window, in pixels")] = 1120,
    height: Annotated[int, typer.Option(help="how much of the page, from its top, in pixels")] = 1520,
) -> None:
    """Take a picture of a report, by Chromium."""
    from scripts.report import picture

    picture.picture(report, output, width, height)


@app.command()
def show(report: Annotated[Path, typer.Option(help="a report.json")]) -> None:
    """Print the table of a report again."""
    from scripts.report import text
    from scripts.results.report import Report

    print(
        text.text(base.plain(base.read(report, Report, "Make the report again: doit")), terminal.columns(sys.stdout)),
        end="",
    )


@app.command()
def track(
    report: Annotated[Path, typer.Option(help="folder of a report")],
    build: Annotated[Path, typer.Option(help="folder that was built into")],
    uri: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="of MLflow's tracking server or database")],
    experiment: Annotated[str, typer.Option(help="whose runs they become")] = "ingot",
) -> None:
    """Make runs of MLflow of a report."""
    from scripts.report import tracking

    new, there = tracking.export(report, build, uri, experiment)
    print(f"{new} runs made in {experiment}" + (f", {there} were there" if there else ""), flush=True)


if __name__ == "__main__":
    program.main(app)

"""The stage program: `python -m scripts.bench quick`; `serve` is the child that it measures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.engine import files, stage

app = stage.program("Measure a package in the runtime that serves it.")

Package = Annotated[Path, typer.Option(help="The package to measure.")]


@app.command()
def quick(package: Package, output: Annotated[Path, typer.Option(help="Result, JSON.")]) -> None:
    """Response time, throughput, memory and CPU of one package, in under a minute or so."""
    from scripts.bench import quick as stage_quick

    files.write_json(output, stage_quick.quick(package))


@app.command(hidden=True)
def serve(package: Package) -> None:
    """Be measured: load the package and do what is asked on stdin, one JSON object a line."""
    from scripts.bench import serve as stage_serve

    stage_serve.serve(package)


if __name__ == "__main__":
    stage.main(app)

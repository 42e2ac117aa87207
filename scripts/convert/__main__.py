"""`python -m scripts.convert`: a checkpoint to float ONNX, and float ONNX to a precision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.common import program

app = program.program("Convert a checkpoint to ONNX GenAI folders, one per precision.")

Output = Annotated[Path, typer.Option(help="the folder to write; must not exist")]


@app.command()
def families() -> None:
    """The architectures that can be converted, those that cannot and why, and the bridges in place."""
    from scripts.convert import listing

    print(listing.as_text())


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="a Hugging Face checkpoint folder")],
    output: Output,
    provider: Annotated[str, typer.Option(help="the execution provider to build for")] = "cpu",
    exporter: Annotated[
        str | None,
        typer.Option(help="builder (of onnxruntime-genai) or mobius; default: the one that makes the family"),
    ] = None,
) -> None:
    """Checkpoint → float ONNX GenAI folder."""
    from scripts.convert import export as job

    job.export(checkpoint, output, provider, exporter)


@app.command()
def quantize(
    export: Annotated[Path, typer.Option(help="a folder that `export` made")],
    recipe: Annotated[Any, typer.Option(parser=program.parse_json, help="a table of recipes.toml, as JSON")],
    output: Output,
    checkpoint: Annotated[Path | None, typer.Option(help="for recipes that start from the checkpoint")] = None,
    calibration: Annotated[
        list[Path] | None, typer.Option(help="for recipes that calibrate: a text or JSON lines; may be repeated")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="the tokens that its package will serve; default: all that the export can")
    ] = None,
    script: Annotated[
        list[Path] | None, typer.Option(help="for trusted workflows: where the code is that they name, in order")
    ] = None,
) -> None:
    """Float ONNX GenAI folder → one precision."""
    from scripts.convert import quantize as job

    job.quantize(export, recipe, output, checkpoint, calibration or (), context, script or ())


if __name__ == "__main__":
    program.main(app, watched=True)

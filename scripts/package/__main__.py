"""`python -m scripts.package build …`: from an ONNX GenAI folder to the folder that Foundry Local gets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.common import program

app = program.program("Make the folder that Foundry Local gets.")


@app.command()
def build(
    onnx: Annotated[Path, typer.Option(help="ONNX GenAI folder: the model in its precision")],
    checkpoint: Annotated[Path, typer.Option(help="Hugging Face checkpoint: tokenizer, chat template, licence")],
    model_id: Annotated[str, typer.Option(help="What Foundry calls it, such as triage-int4-generic-cpu:1")],
    precision: Annotated[str, typer.Option(help="Name of the recipe that made it, for the model card")],
    output: Annotated[Path, typer.Option(help="Folder to make")],
    template_of: Annotated[
        Path | None, typer.Option(help="Hugging Face checkpoint whose chat template is used where that one has none")
    ] = None,
    tuned: Annotated[
        Path | None, typer.Option(help="domain.json of the float export, for the card; may be missing")
    ] = None,
    untuned: Annotated[
        Path | None, typer.Option(help="baseline.json of the model without its fine-tuning; may be missing")
    ] = None,
    description: Annotated[str, typer.Option(help="One or two sentences for the model card")] = "",
    version: Annotated[str, typer.Option(help="Version to show, such as 1.0")] = "1",
    license: Annotated[str, typer.Option(help="Licence of the weights, such as apache-2.0")] = "",  # noqa: A002
    sampling: Annotated[
        Any,
        typer.Option(
            parser=program.parse_json,
            metavar="JSON",
            help="Defaults: max_length, temperature, top_p, top_k, repetition_penalty",
        ),
    ] = None,
    context_length: Annotated[
        Any,
        typer.Option(
            parser=program.parse_json,
            metavar="INTEGER",
            help="Tokens of prompt and answer together; default: the smaller of 4096 and the model's own limit",
        ),
    ] = None,
) -> None:
    """Link the model, write settings, template, card and licence, and compare token ids with transformers."""
    from scripts.package.build import build as make
    from scripts.package.card import PackageSpec
    from scripts.package.gained import told

    spec = PackageSpec(model_id, precision, description, version, license, sampling, context_length)
    make(onnx, checkpoint, spec, output, template_of, told(tuned, untuned))


if __name__ == "__main__":
    # Tokenizers need no torch, yet transformers imports it where it finds it: 3 of 5 seconds.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    program.main(app, watched=True)

"""`python -m scripts.edges run`: edge cases and invalid requests, sent to a deployed model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import program
from scripts.results import base
from scripts.results.foundry import Deploy

app = program.program("Send edge cases and invalid input to a deployed model.")


@app.command()
def run(
    package: Annotated[Path, typer.Option(help="The package: a folder with genai_config.json.")],
    deployed: Annotated[Path, typer.Option(help="The result of deploy, JSON.")],
    output: Annotated[Path, typer.Option(help="Result, JSON.")],
) -> None:
    """Send edge cases and invalid input to the deployed model, and see that it still serves after each."""
    from scripts.edges import edges

    result = edges.edges(package, base.read(deployed, Deploy, "Deploy it again: `doit deploy`"))
    print(f"edges: {result.verdict}, {len(result.cases)} cases", *result.reasons, sep="\n  ", flush=True)
    base.write(output, result)


if __name__ == "__main__":
    program.main(app)

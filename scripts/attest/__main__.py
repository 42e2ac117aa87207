"""The stage program: `python -m scripts.attest write …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.common import program

app = program.program("Tell what a package was made of.")


@app.command()
def write(
    package: Annotated[Path, typer.Option(help="The package: a folder that Foundry could be given")],
    model_id: Annotated[str, typer.Option(help="What Foundry calls it, such as triage-int4-generic-cpu:1")],
    precision: Annotated[str, typer.Option(help="Name of the recipe that made it")],
    output: Annotated[Path, typer.Option(help="Folder to make")],
    quality: Annotated[Path | None, typer.Option(help="quality.json; may be a marker")] = None,
    domain: Annotated[Path | None, typer.Option(help="domain.json; may be a marker")] = None,
    source: Annotated[Path | None, typer.Option(help="Weights of the user's: a folder, or a GGUF file")] = None,
    adapter: Annotated[list[Path] | None, typer.Option(help="Folder of a LoRA adapter")] = None,
    cases: Annotated[Path | None, typer.Option(help="The model's own cases")] = None,
    schema: Annotated[Path | None, typer.Option(help="JSON schema of an answer")] = None,
    text: Annotated[list[Path] | None, typer.Option(help="Evaluation text")] = None,
    calibration: Annotated[list[Path] | None, typer.Option(help="Calibration text")] = None,
    fetched: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help="Weights that are no path")
    ] = "null",
    base: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help="What was fine-tuned, likewise")
    ] = "null",
    recipe: Annotated[Any, typer.Option(parser=program.parse_json, metavar="JSON", help="The recipe")] = "null",
    weights: Annotated[Any, typer.Option(parser=program.parse_json, metavar="JSON", help="Of the adapters")] = "null",
    tools: Annotated[
        Any, typer.Option(parser=program.parse_json, metavar="JSON", help="Distribution → version, of what acted")
    ] = "null",
    description: Annotated[str, typer.Option(help="One or two sentences")] = "",
    version: Annotated[str, typer.Option(help="Version to show")] = "1",
    license: Annotated[str, typer.Option(help="Licence of the weights")] = "unknown",  # noqa: A002
) -> None:
    """Link the package, and write bill of materials, provenance, and the card with its figures."""
    from scripts.attest import build

    data = {"cases": [cases] if cases else [], "answer schema": [schema] if schema else [],
            "evaluation text": text or [], "calibration text": calibration or []}  # fmt: skip
    asked = build.Asked(model_id, precision, description, version, license, fetched or {}, base or {}, recipe or {},
                        weights or (), tools or {})  # fmt: skip
    build.write(package, asked, build.Given(source, adapter or [], data), quality, domain, output)


@app.command()
def sign(
    package: Annotated[Path, typer.Option(help="The package, with what it was made of")],
    model_id: Annotated[str, typer.Option(help="What Foundry calls it: the signature is for this name")],
    public_key: Annotated[Path, typer.Option(help="The key by which it must verify, PEM")],
    output: Annotated[Path, typer.Option(help="Folder to make, for the signature")],
    recommendation: Annotated[Path | None, typer.Option(help="Result of recommend, JSON; none: sign anyway")] = None,
    precision: Annotated[str, typer.Option(help="Which of the recommendation's precisions this package is")] = "",
    policy: Annotated[str, typer.Option(help="Which are deployed: all, recommended or none")] = "all",
    target: Annotated[str, typer.Option(help="Execution provider that it is for")] = "cpu",
) -> None:
    """Sign a package with the private key that INGOT_SIGNING_KEY names, or tell why it is not deployed.

    What is for another execution provider than this machine's is never deployed here, and signed to be handed on.
    """
    from scripts.attest import signing
    from scripts.attest.papers import UNSIGNED_WHY
    from scripts.definitions.passes import not_run
    from scripts.quality.policy import held_back
    from scripts.results import base
    from scripts.results.quality import Advice

    advice = base.read(recommendation, Advice, "Make it again: `doit recommend`") if recommendation else None
    refusal = held_back(advice, precision, policy)
    if refusal and refusal.reasons[:1] != [not_run(target)]:
        output.mkdir(parents=True)
        base.write(output / UNSIGNED_WHY, refusal)
        print(f"attest: {model_id} is not signed: {'; '.join(refusal.reasons)}", flush=True)
        return
    signing.refuse_other(package, model_id)
    signing.sign(package, public_key, output)
    print(f"attest: signed, and verified by {public_key.name}", flush=True)


if __name__ == "__main__":
    program.main(app)

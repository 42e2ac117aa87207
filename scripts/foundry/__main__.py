"""The stage program: `python -m scripts.foundry deploy | verify | undeploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import program
from scripts.results import base
from scripts.results.foundry import Deploy
from scripts.results.quality import Advice

app = program.program("Put packages into a Foundry cache, and ask them there.")

Package = Annotated[Path, typer.Option(help="The package: a folder with genai_config.json and inference_model.json.")]
ModelId = Annotated[str, typer.Option(help="The model's id, NAME:NUMBER.")]
Cache = Annotated[str, typer.Option(help='The model cache: a folder, "app:NAME", or "auto".')]
Output = Annotated[Path, typer.Option(help="Result, JSON.")]


@app.command()
def deploy(
    package: Package,
    model_id: ModelId,
    cache: Cache,
    output: Output,
    recommendation: Annotated[Path | None, typer.Option(help="Result of recommend, JSON; none: deploy anyway.")] = None,
    precision: Annotated[str, typer.Option(help="Which of the recommendation's precisions this package is.")] = "",
    policy: Annotated[str, typer.Option(help="all: every one that passed; recommended: that one; none.")] = "all",
) -> None:
    """Put a package into a Foundry cache and register it there; what is there already is reused."""
    from scripts.foundry import cache as caches
    from scripts.foundry import deploy as stage_deploy

    advice = base.read(recommendation, Advice, "Make it again: `doit recommend`") if recommendation else None
    if refusal := stage_deploy.held_back(advice, precision, policy):
        result = Deploy(verdict=refusal.verdict, reasons=refusal.reasons, id=model_id, cache=cache)
        print(f"deploy: {model_id} stays out: {'; '.join(refusal.reasons)}", flush=True)
    else:
        result = stage_deploy.deploy(package, model_id, caches.resolve(cache))
        print(f"deploy: {model_id} {result.action} in {result.cache}", flush=True)
    base.write(output, result)


@app.command()
def verify(
    package: Package,
    deployed: Annotated[Path, typer.Option(help="The result of deploy, JSON.")],
    output: Output,
    domain: Annotated[Path | None, typer.Option(help="Answers recorded for the package, JSON.")] = None,
    cases: Annotated[Path | None, typer.Option(help="The cases that were asked, JSON lines.")] = None,
    schema: Annotated[Path | None, typer.Option(help="JSON schema of an answer.")] = None,
) -> None:
    """Ask the deployed model, in a fresh process, and expect what its package answered."""
    from scripts.foundry import verify as stage_verify

    result = stage_verify.verify(
        package, base.read(deployed, Deploy, "Deploy it again: `doit deploy`"), domain, cases, schema
    )
    print(f"verify: {result.id} answers as its package does", flush=True)
    base.write(output, result)


@app.command()
def undeploy(model_id: ModelId, cache: Cache) -> None:
    """Take a model that Ingot deployed out of a Foundry cache; others' models are left alone."""
    from scripts.foundry import cache as caches
    from scripts.foundry import deploy as stage_deploy

    where = caches.resolve(cache)
    print(f"undeploy: {model_id} in {where}: {stage_deploy.undeploy(model_id, where)}", flush=True)


if __name__ == "__main__":
    program.main(app, watched=True)

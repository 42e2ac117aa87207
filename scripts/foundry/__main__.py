"""The stage program: `python -m scripts.foundry deploy | reconcile | verify | undeploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.common import program
from scripts.results import base
from scripts.results.foundry import Deploy
from scripts.results.quality import Advice

app = program.program("Put packages into a Foundry cache, and ask them there.")

Package = Annotated[Path, typer.Option(help="The package: a folder with genai_config.json and inference_model.json.")]
ModelId = Annotated[str, typer.Option(help="The model's id, NAME:NUMBER.")]
Cache = Annotated[str, typer.Option(help='The model cache: a folder, "app:NAME", or "auto".')]
Config = Annotated[Path | None, typer.Option(help="The configuration that asks: a folder with models.toml.")]
Build = Annotated[Path, typer.Option(help="The folder that is built into.")]
Asked = Annotated[
    Any,
    typer.Option(parser=program.parse_json, metavar="JSON", help='{"names": {NAME: [MODEL, PRECISION]}, "broken": []}'),
]
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
    config: Config = None,
    signature: Annotated[Path | None, typer.Option(help="Folder with its signature, which must verify.")] = None,
    public_key: Annotated[Path | None, typer.Option(help="By this key, PEM.")] = None,
) -> None:
    """Put a package into a Foundry cache and register it there; what is there already is reused."""
    from scripts.foundry import cache as caches
    from scripts.foundry import deploy as stage_deploy
    from scripts.foundry import signature as signatures
    from scripts.quality.policy import held_back

    advice = base.read(recommendation, Advice, "Make it again: `doit recommend`") if recommendation else None
    if refusal := held_back(advice, precision, policy):
        result = Deploy(verdict=refusal.verdict, reasons=refusal.reasons, id=model_id, cache=cache)
        print(f"deploy: {model_id} stays out: {'; '.join(refusal.reasons)}", flush=True)
    else:
        signed = signatures.of_package(signature or package, public_key) if public_key else None
        result = stage_deploy.deploy(package, model_id, caches.resolve(cache), config, signed)
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
def reconcile(
    cache: Cache,
    asked: Asked,
    config: Config,
    build: Build,
    output: Output,
    policy: Annotated[str, typer.Option(help="keep, or remove what is refused and what nothing asks for.")] = "keep",
    keep: Annotated[int, typer.Option(help="How many earlier versions stay.")] = 1,
    remedy: Annotated[str, typer.Option(help="The command that takes orphans down.")] = "doit undeploy --orphans",
) -> None:
    """List what this configuration has in a Foundry cache, against what it asks for."""
    from scripts.foundry import cache as caches
    from scripts.foundry import standing

    assert config
    result = standing.reconcile(caches.resolve(cache), standing.Asked.of(config, build, asked), policy, remedy, keep)
    print(f"reconcile: {len(result.stands)} in {result.cache}", *result.reasons, sep="\n", flush=True)
    base.write(output, result)


@app.command()
def undeploy(
    cache: Cache,
    model_id: Annotated[str, typer.Option(help="The model's id, NAME:NUMBER.")] = "",
    config: Config = None,
) -> None:
    """Take a model that Ingot deployed, or all of a configuration, out of a Foundry cache; others' are left alone."""
    from scripts.foundry import cache as caches
    from scripts.foundry import deploy as stage_deploy
    from scripts.foundry import marks

    where = caches.resolve(cache)
    if model_id:
        print(f"undeploy: {model_id} in {where}: {stage_deploy.undeploy(model_id, where)}", flush=True)
    for own in list(marks.ours(where)) if config else ():
        if own.is_of(str(config), own_cache=True):
            print(f"undeploy: {own.id} in {where}: {stage_deploy.undeploy(own.id, where, own.folder)}", flush=True)


@app.command()
def signed(
    cache: Cache,
    asked: Asked,
    config: Annotated[Path, typer.Option(help="The configuration that asks: a folder with models.toml.")],
    build: Build,
    public_key: Annotated[Path, typer.Option(help="The key by which all must be signed, PEM.")],
) -> None:
    """Verify the signature of every deployed model of a configuration; exits 1 where one does not verify."""
    from scripts.foundry import cache as caches
    from scripts.foundry import signed as stage_signed
    from scripts.foundry import standing

    where = caches.resolve(cache)
    found = stage_signed.check(where, standing.Asked.of(config, build, asked), public_key)
    if not found:
        print(f"nothing of {config / 'models.toml'} is deployed in {where}: no signature was verified", flush=True)
        return
    for model, problems in found.items():
        print(*(f"✗ {model}: {line}" for line in problems), sep="\n", end="\n" if problems else "", flush=True)
    good = sum(not problems for problems in found.values())
    print(f"{good} of {len(found)} deployed models are as they were signed", flush=True)
    if good < len(found):
        print("Remove each folder that is named, and doit deploys again what is asked for", flush=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    program.main(app, watched=True)

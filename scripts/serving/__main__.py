"""`python -m scripts.serving VERB`: what doit's commands chat, models, pack, rollback, serve and undeploy run."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.common import json_files, program
from scripts.common.errors import UnknownNameError
from scripts.serving.place import Given, Place

app = program.program(__doc__)

Deployed = Annotated[
    Any,
    typer.Option(parser=program.parse_json, metavar="JSON", help="{cache, config, build, asked, cases, options}"),
]
Names = Annotated[list[str] | None, typer.Argument(help="A model, MODEL-PRECISION, or an id.")]


@app.command()
def models(deployed: Deployed, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List what stands in the cache."""
    from scripts.serving import listing

    place = Place.of(deployed)
    found = listing.rows(place)
    print(json_files.dumps(found) if as_json else listing.as_text(place, found), flush=True)


@app.command()
def chat(
    deployed: Deployed,
    names: Names = None,
    message: Annotated[str | None, typer.Option(help="Ask this, and print the answer alone.")] = None,
    system: Annotated[str, typer.Option(help="How the model should behave.")] = "",
    tokens: Annotated[int | None, typer.Option(help="Of an answer, at most.")] = None,
    greedy: Annotated[bool, typer.Option(help="The most likely words.")] = False,
) -> None:
    """Talk to a deployed model."""
    from scripts.serving import talk

    place = Place.of(deployed)
    if len(names or ()) > 1:
        raise UnknownNameError("doit chat", f"names {len(names or ())} models", "Name one")
    model = place.find(*(names or [""]))
    at_terminal = message is None and sys.stdin.isatty()
    text = "" if at_terminal else talk.question(message)
    with talk.opened(model, place, system, tokens, greedy) as conversation:
        if at_terminal:
            talk.talk(conversation, model, place)
        else:
            talk.ask_once(conversation, text)


@app.command()
def serve(
    deployed: Deployed,
    names: Names = None,
    port: Annotated[int, typer.Option(help="Where to listen; 0: wherever one is free.")] = 0,
) -> None:
    """Put deployed models behind the runtime's HTTP service, until Ctrl-C."""
    from scripts.serving import service

    place = Place.of(deployed)
    models = {model.id: model for model in map(place.find, names or [""])}
    service.serve(list(models.values()), place.cache, port)


@app.command()
def undeploy(
    deployed: Deployed,
    names: Names = None,
    orphans: Annotated[bool, typer.Option(help="All that nothing in models.toml asks for.")] = False,
) -> None:
    """Take models that Ingot deployed out of the cache; others' are left alone."""
    from scripts.serving import taking_down

    taking_down.undeploy(Place.of(deployed), names or [], orphans)


@app.command()
def rollback(
    deployed: Deployed,
    names: Names = None,
    to: Annotated[int | None, typer.Option(help="The version; default: the one before.")] = None,
) -> None:
    """Have an earlier version listed, and none that is newer."""
    from scripts.serving import taking_down

    place = Place.of(deployed)
    if len(names or ()) != 1:
        raise UnknownNameError("doit rollback", f"names {len(names or ())} models", "Name one, or MODEL-PRECISION")
    taking_down.rollback(place, (names or [""])[0], to, shlex.join(["doit", *place.options, "rollback"]))


@app.command()
def pack(
    deployed: Deployed,
    names: Names = None,
    out: Annotated[Path | None, typer.Option(help="What to write; default: MODEL-PRECISION.tar, here.")] = None,
    kind: Annotated[str, typer.Option("--format", help="tar, or oci for an OCI image layout.")] = "tar",
    force: Annotated[bool, typer.Option(help="Replace what is there; pack also what a gate refused.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be written.")] = False,
) -> None:
    """Make an archive, or an OCI image layout, of one precision, to hand on."""
    from scripts.pack import pack
    from scripts.pack.subject import Beside

    if len(names or ()) != 1:
        raise UnknownNameError("doit pack", f"names {len(names or ())} models", "Name one MODEL-PRECISION")
    given = Given.of(deployed)
    beside = Beside(given.bases, given.elsewhere, Path(given.public_key) if given.public_key else None)
    pack.pack(given.wanted, (names or [""])[0], out, kind, beside, force=force, dry_run=dry_run)


def main(run: Callable[..., object]) -> None:
    """The program; a name that nothing has is a mistake on the command line, and exits 3."""

    def checked(*args: Any, **options: Any) -> object:
        try:
            return run(*args, **options)
        except UnknownNameError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(3)

    for stream in (sys.stdout, sys.stderr):  # what a model says is Unicode, whatever the system's encoding is
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    program.main(checked)


if __name__ == "__main__":
    main(app)

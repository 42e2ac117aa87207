"""Cheap verbs over folders of text, started by the engine as the real stages are."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.engine import stage
from scripts.engine.errors import IngotError
from scripts.engine.files import link, write_json

app = stage.program(__doc__ or "")
In = Annotated[list[Path], typer.Option()]
Out = Annotated[Path, typer.Option()]
Value = Annotated[Any, typer.Option(parser=stage.parse_json)]


def parts(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("manifest.json", "provenance.json"))


@app.command()
def copy(source: In, output: Out, suffix: str = "") -> None:
    output.mkdir()
    for number, folder in enumerate(source):
        for file in parts(folder):
            (output / f"{number}-{file.name}").write_text(file.read_text() + suffix)


@app.command()
def split(source: Annotated[Path, typer.Option()], output: Out, size: Value = "3") -> None:
    output.mkdir()
    for file in parts(source):
        text = file.read_text()
        for at in range(0, max(len(text), 1), size):
            (output / file.name).mkdir(exist_ok=True)
            (output / file.name / f"{at:03}").write_text(text[at : at + size])


@app.command()
def join(source: In, output: Out) -> None:
    output.mkdir()
    (output / "all.txt").write_text("".join(f.read_text() for folder in source for f in parts(folder)))


@app.command()
def relink(source: Annotated[Path, typer.Option()], output: Out) -> None:
    for file in parts(source):
        link(file, output / file.name)


@app.command()
def count(source: In, output: Out, at_most: Value = "1000000", delay: float = 0.0) -> None:
    size = sum(len(f.read_text()) for folder in source for f in parts(folder))
    time.sleep(delay)
    refused = size > at_most
    reasons = [f"{size} letters, at most {at_most}"] if refused else []
    write_json(output, {"verdict": "refused" if refused else "passed", "reasons": reasons, "size": size})


@app.command()
def fail(source: In, output: Out, how: str = "reason") -> None:
    if how == "reason":
        raise IngotError(source[0], "is not to this verb's taste", "Try another")
    if how == "silent":
        return
    if how == "crash":
        os.abort()
    if how == "hang":
        print("hanging", flush=True)
        time.sleep(600)
    if how == "memory":
        block = bytearray(1 << 30)
        print(json.dumps(len(block)), flush=True)
        time.sleep(600)


if __name__ == "__main__":
    stage.main(app)

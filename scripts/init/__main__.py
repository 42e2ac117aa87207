"""`python -m scripts.init FOLDER`: what `doit init` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import program, visible
from scripts.common.errors import IngotError
from scripts.common.user_files import expanded
from scripts.init import beside, places, writing

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Argument(help="folder of a model, of its adapter, or of both; or a .gguf file")]


@app.command()
def init(
    folder: Folder,
    adapter: Annotated[list[Path] | None, typer.Option(help="a LoRA adapter's folder; may be repeated")] = None,
    name: Annotated[str | None, typer.Option(help="what to call the model")] = None,
    config: Annotated[Path | None, typer.Option(help="the folder to write models.toml to; default: FOLDER")] = None,
    dry_run: Annotated[bool, typer.Option(help="print the file, and write none")] = False,
) -> None:
    """Write a models.toml for what is in a folder, and say what could not be known."""
    from scripts.init import judging

    path = expanded(folder).resolve()
    found = places.look(path, [expanded(item).resolve() for item in adapter or ()])
    target = _target(path, config)
    if target.exists() and not dry_run:
        remedy = "Change it by hand, or write another one elsewhere: doit init FOLDER config=DIR"
        raise IngotError(target, "is there already, and is not written over", remedy)
    near = beside.look(path if path.is_dir() else path.parent)
    written = judging.describe(path, found, near, target.parent, name)
    for mark, lines in (("found", written.notes), ("unknown", written.unknown)):
        for line in lines:
            print(f"{mark:<8} {visible.line(line)}")
    if dry_run:
        print(f"\n{written.text}", end="")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("x", encoding="utf-8", newline="\n") as file:
        file.write(written.text)
    print(f"wrote    {target}")
    print(f"next     doit config={writing.shell_word(str(target.parent))} doctor; then the same without doctor")


def _target(path: Path, config: Path | None) -> Path:
    """The file to write. Raises `IngotError` where nobody says where, and the folder is the hub's."""
    if config is None:
        folder = path if path.is_dir() else path.parent
        if places.is_in_hub_cache(folder):
            raise IngotError(folder, "is in a cache of the hub, where no other file belongs",
                             "Say where to write models.toml: doit init FOLDER config=DIR")  # fmt: skip
        return folder / "models.toml"
    return expanded(config).resolve() / "models.toml"


if __name__ == "__main__":
    program.main(app)

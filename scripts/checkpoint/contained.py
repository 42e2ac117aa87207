"""What a stranger's folder brings along is its own: no link leads out of it, and no small file is a large one.

A link to elsewhere would carry a file of this machine into packages that are passed on. In the hub's cache a file is
itself a link, into the `blobs` of the same repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.checkpoint.user_json import LARGEST
from scripts.common.errors import IngotError
from scripts.common.model_files import is_tokenizer_file, is_weight_file

#: Bytes of a configuration, a chat template or a licence.
_SMALL = 4 << 20
_PUT = "Put the file itself there, or remove the link"


def check(root: Path, belongs: Callable[[str], bool]) -> None:
    """Raise `IngotError` for a file of the folder `root` that `belongs`, by its relative name, and is not its own."""
    home = root.resolve()
    for name, path in _files(root, belongs, ""):
        refuse_link_out(path, home)
        size, most = path.stat().st_size, LARGEST if is_tokenizer_file(path.name) else _SMALL
        if size > most and not is_weight_file(path.name) and path.suffix != ".safetensors":
            found = f"is {size >> 20} MiB large, where at most {most >> 20} MiB are read"
            raise IngotError(path, found, f"Is it the right file? {name} is small in every model that is known")


def refuse_link_out(path: Path, home: Path) -> None:
    """Raise `IngotError` where `path` leads, by a link, out of `home` (resolved) and the repository around it."""
    real = path.resolve()
    if real.is_relative_to(home) or any(real.is_relative_to(blobs) for blobs in _blobs(home)):
        return
    raise IngotError(path, f"a link out of its folder, to {real}, which the package would pass on", _PUT)


def _blobs(home: Path) -> Iterator[Path]:
    """Where the hub's cache keeps the contents of a repository's files, if `home` is one of its snapshots."""
    for folder in (home, *home.parents):
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            yield folder.parent.parent / "blobs"


def _files(folder: Path, belongs: Callable[[str], bool], below: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        name = below + path.name
        if path.is_dir() and belongs(f"{name}/"):
            yield from _files(path, belongs, f"{name}/")
        elif belongs(name) and path.is_file():
            yield name, path

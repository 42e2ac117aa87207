"""What is in a Foundry model cache: where it is, what a folder of it holds, what is registered.

Nothing here changes a cache or opens the runtime. A model that Ingot deployed is in `<cache>/ingot/<name>/`, `name`
being its id without the version, a later version in `<name>-<version>`: a folder of its own below the cache root, which
runtimes that scan the cache find and those that want a registration take as well. It carries Ingot's `manifest.json`; a
folder without it is someone else's.

`foundry.local.modelinfo.json` in the cache root is the runtime's own index of registrations (SDK 2.2.1):
{"catalog_name", "models": [{"model_info": {"id", …}, "model_path": absolute}], "version": 2}. Only the runtime
writes it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from scripts.common import json_files, json_values, manifest, process
from scripts.common.errors import IngotError
from scripts.common.hashes import digest_file as digest
from scripts.common.manifest import MANIFEST, NOT_CONTENT, Files
from scripts.common.user_files import expanded
from scripts.foundry.marks import FOLDER, NOTES, owner

INDEX = "foundry.local.modelinfo.json"
MARKER = "inference_model.json"  # a runtime that scans lists a folder by this file: it is written last
SETTINGS = "genai_config.json"


# --- where the cache is


def resolve(setting: str) -> Path:
    """The cache folder that a setting means: "auto" asks the `foundry` command, "app:NAME" is the folder of an
    app built on the SDK (`~/.NAME/cache/models`), anything else is a path.

    Raises `IngotError` if "auto" finds no answer, listing the folders that look like caches, and where a home folder is
    meant and there is none.
    """
    if setting == "auto":
        return _ask_foundry()
    if setting.startswith("app:"):
        return expanded(f"~/.{setting[4:]}") / "cache" / "models"
    return expanded(setting).absolute()


def _ask_foundry() -> Path:
    command = shutil.which("foundry")
    answer = ""
    if command:
        try:
            done = process.capture([command, "cache", "location"], seconds=60)
            answer = "it did not end in 60 s" if done.too_long else done.output
        except OSError as error:
            answer = str(error)
        if found := location_in(answer):
            return found
    said = (
        f"`foundry cache location` gave no folder: {answer.strip()!r}" if command else "there is no `foundry` command"
    )
    caches = ", ".join(str(path) for path in candidates())
    raise IngotError(
        'foundry.cache = "auto"',
        said,
        f"Set cache to a folder in models.toml; found on this machine: {caches or 'none'}",
    )


def location_in(text: str) -> Path | None:
    """The folder that `foundry cache location` names: the last absolute path that ends a line of its output."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    paths = re.findall(r"(?:^|[\s\"'])((?:[A-Za-z]:[\\/]|/)[^\n\"']*?)[\s\"'.]*$", plain, re.MULTILINE)
    return Path(paths[-1]) if paths else None


def candidates(home: Path | None = None) -> list[Path]:
    """Folders in the user's home that are laid out like a Foundry model cache."""
    try:
        return sorted(path for path in (home or Path.home()).glob(".*/cache/models") if path.is_dir())
    except RuntimeError:  # there is none
        return []


# --- what a package and a deployed folder hold


def contents(folder: Path) -> Files:
    """Every file of an artifact folder with its size and BLAKE3, computed now."""
    return manifest.scan(str(folder), lambda path, _: digest(path))


def manifest_of(package: Path) -> Files:
    """The files that a package is made of: its manifest's list, or what is there if it was made by hand.

    Raises `IngotError` if it is not a package that Foundry could be given.
    """
    for name in (SETTINGS, MARKER):
        if not (package / name).is_file():
            raise IngotError(package, f"has no {name}: not a package", "Build it with `doit package`")
    recorded = manifest.load(str(package))
    return recorded["files"] if recorded and recorded["files"] else contents(package)


def differences(folder: Path, files: Files, digest_of: Callable[[str], str] | None = None) -> list[str]:
    """How a folder differs from what it should hold, by content; a line for each file, empty if it does not.

    `digest_of`: a file's BLAKE3 from whoever knows it already; None: every byte is read.
    """
    found = []
    for name, file in files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != file["size"]:
            found.append(f"{name} has {path.stat().st_size} bytes instead of {file['size']}")
        elif (digest_of or digest)(str(path)) != file["blake3"]:
            found.append(f"{name} has other content")
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in files and name not in NOT_CONTENT and name not in NOTES:
            found.append(f"{name} does not belong there")
    return found


# --- the registrations


class _Info(Struct):
    id: str


class _Registered(Struct):
    model_info: _Info
    model_path: Annotated[str, Meta(pattern=r"^[^\0]*$", max_length=1 << 15)]


class _Index(Struct):
    models: list[_Registered]


def registrations(cache: Path) -> dict[str, Path]:
    """Registered ids and the folders that they point to; the folders need not exist any more.

    Raises `IngotError` if the index cannot be read: the runtime then lists nothing at all.
    """
    index = cache / INDEX
    try:
        listed = msgspec.convert(json_files.read(index), _Index)
        return {model.model_info.id: Path(model.model_path) for model in listed.models}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise IngotError(
            index,
            f"Foundry Local's list of registered models cannot be read ({type(error).__name__}: {error})",
            "Restore it from a copy, or move it away and deploy again; the models' files are still there, but what "
            "else it listed must be registered again by whoever did so",
        ) from None


def home_of(cache: Path, model_id: str) -> Path:
    """Where Ingot puts a model in a cache: the first version below its name, a later one with its number behind."""
    name, _, version = model_id.rpartition(":")
    return cache / FOLDER / (name if version == "1" else f"{name}-{version}")


def id_of(folder: Path) -> str:
    """The id whose place a folder of Ingot's in a cache is: the inverse of `home_of`."""
    found = re.fullmatch(r"(.+)-([1-9][0-9]*)", folder.name)
    return f"{found[1]}:{found[2]}" if found else f"{folder.name}:1"


def marked_name(marker: Path) -> str | None:
    """The name under which a scanning runtime lists a folder with this `inference_model.json`; None: it does not."""
    try:
        return named(json_files.read_bytes(marker))
    except (OSError, ValueError):
        return None


def named(marker: bytes) -> str | None:
    """The same, of the file's content."""
    name = name_in(marker)
    return name if name is None or ":" in name else f"{name}:0"


def name_in(marker: bytes) -> str | None:
    """The text at `Name` of an `inference_model.json`, if there is any."""
    try:
        name = json_values.parse(marker.decode("utf-8-sig"), strict=False)["Name"]
    except (ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and name else None


def is_scratch(folder: Path) -> bool:
    """Whether a folder is what a deployment that was killed left behind: hidden, in Ingot's folder, made by it."""
    if folder.parent.name != FOLDER or not re.fullmatch(r"\..+\.(new|old)", folder.name):
        return False
    # Without a manifest it can only have been killed before that was written.
    return owner(folder) is not None or all(p.name.startswith(f".{MANIFEST}.") for p in folder.iterdir())

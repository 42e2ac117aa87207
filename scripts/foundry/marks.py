"""What Ingot leaves in the folders that it puts into a Foundry cache: whose they are, and when they were verified."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import json_files, manifest

FOLDER = "ingot"  # below the cache's root: where Ingot puts models, and nobody else
#: Beside a model that answered as it should: {"at": ISO 8601, "by": the runtime, "files": digest of its manifest}.
VERIFIED = "verified.json"


def mark_of(folder: Path) -> Mapping[str, Any] | None:
    """What Ingot's manifest says of a folder that it deployed: `id`, and `config`, the configuration that asked for it
    (not before there were any). None if the folder does not carry Ingot's manifest.
    """
    listed = manifest.load(str(folder))
    found = listed.get("ingot") if listed else None
    return found if isinstance(found, dict) and isinstance(found.get("id"), str) else None


def owner(folder: Path) -> str | None:
    """Id of the model that Ingot deployed into `folder`; None if it does not carry Ingot's manifest."""
    found = mark_of(folder)
    return str(found["id"]) if found else None


@dataclass(frozen=True)
class Own:
    """A model that Ingot put into a cache; `mark` as `mark_of` has it."""

    id: str
    folder: Path
    mark: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The id without its version."""
        return self.id.rpartition(":")[0]

    def is_of(self, config: str, own_cache: bool) -> bool:
        """Whether this configuration deployed it; where no mark tells, whatever is in a build's own cache is its."""
        by = self.mark.get("config")
        return own_cache if by is None else same(Path(str(by)), Path(config))


def ours(cache: Path) -> Iterator[Own]:
    """Every model that Ingot, for whichever configuration, put into a cache; a link there is somebody else's."""
    parent = cache / FOLDER
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if not folder.name.startswith(".") and not folder.is_symlink() and (mark := mark_of(folder)):
            yield Own(str(mark["id"]), folder, mark)


def verified(folder: Path) -> Mapping[str, Any] | None:
    """When and by what the files that are there now were verified; None where they were not."""
    listed = manifest.load(str(folder))
    try:
        found = json_files.read(folder / VERIFIED)
    except (OSError, ValueError):
        return None
    fits = listed and isinstance(found, dict) and found.get("files") == manifest.files_digest(listed["files"])
    return found if fits else None


def note_verified(folder: Path, by: str, at: str) -> None:
    """Note that the model in a folder answered as it should. Raises `OSError` where the cache can't be written."""
    listed = manifest.load(str(folder))
    assert listed, f"{folder} carries no manifest"
    json_files.write(folder / VERIFIED, {"at": at, "by": by, "files": manifest.files_digest(listed["files"])})


def same(one: Path, other: Path) -> bool:
    """Whether two paths name one place, be they there or not."""
    return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))

"""What Ingot leaves in the folders that it puts into a Foundry cache: whose they are, and when they were verified."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.attest.papers import SIGNATURE
from scripts.common import json_files, manifest
from scripts.common.model_id import is_id
from scripts.results import measured

FOLDER = "ingot"  # below the cache's root: where Ingot puts models, and nobody else
#: Why a version is not listed: the user took it back; it did not answer as it should.
ROLLED_BACK, UNVERIFIED = "doit rollback", "it did not answer as it should"
#: What helps two configurations that deploy one name into one cache.
APART = "name the model otherwise in one of the two, or give each a cache of its own"
#: Beside a model that answered as it should: {"at": ISO 8601, "by": the runtime, "files": digest of its manifest,
#: "claims": what it was seen to do, by the runtime's names}.
VERIFIED = "verified.json"
#: Beside a deployed model: what its build measured of it, {"files": as above, "figures": as `Figures` has it}.
MEASURED = "measured.json"
#: What Ingot writes beside a deployed model's own files.
NOTES = frozenset({VERIFIED, MEASURED, SIGNATURE})


def mark_of(folder: Path) -> Mapping[str, Any] | None:
    """What Ingot's manifest says of a folder that it deployed: `id`; `config`, the configuration that asked for it;
    `taken_back`, why it is not listed. None if the folder does not carry Ingot's manifest, or is a link: Ingot makes
    none there.
    """
    listed = None if folder.is_symlink() else manifest.load(str(folder))
    found = listed.get("ingot") if listed else None
    return found if isinstance(found, dict) and is_id(str(found.get("id"))) else None


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

    @property
    def version(self) -> int:
        """The number after the colon."""
        return int(self.id.rpartition(":")[2])

    @property
    def taken_back(self) -> str | None:
        """Why no runtime is to list it; None where each is."""
        why = self.mark.get("taken_back")
        return None if why is None else str(why)

    def is_of(self, config: str, own_cache: bool) -> bool:
        """Whether this configuration deployed it; where no mark tells, whatever is in a build's own cache is its."""
        by = self.mark.get("config")
        return own_cache if by is None else same(Path(str(by)), Path(config))


def ours(cache: Path) -> Iterator[Own]:
    """Every model that Ingot, for whichever configuration, put into a cache; a link there is somebody else's."""
    parent = cache / FOLDER
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if not folder.name.startswith(".") and (mark := mark_of(folder)):
            yield Own(str(mark["id"]), folder, mark)


def versions(cache: Path, name: str) -> list[Own]:
    """All that Ingot has of a name, the newest first."""
    found = [own for own in ours(cache) if own.name.casefold() == name.casefold()]
    return sorted(found, key=lambda own: -own.version)


def content(own: Own) -> str:
    """The digest of what answers in it: what only tells of a model makes no other version."""
    listed = manifest.load(str(own.folder))
    return measured.served(listed["files"] if listed else {})


def verified(folder: Path) -> Mapping[str, Any] | None:
    """When and by what the files that are there now were verified; None where they were not."""
    return note_of(folder, VERIFIED)


def claims(folder: Path) -> list[str]:
    """What the files that are there now were seen to do, and their registration says."""
    found = (verified(folder) or {}).get("claims")
    return [str(claim) for claim in found] if isinstance(found, list) else []


def note_verified(folder: Path, by: str, at: str, seen: Sequence[str] = ()) -> None:
    """Note that the model in a folder answered as it should, and did what was `seen`. Raises `OSError` where the cache
    can't be written.
    """
    listed = manifest.load(str(folder))
    assert listed, f"{folder} carries no manifest"
    digest = manifest.files_digest(listed["files"])
    json_files.write(folder / VERIFIED, {"at": at, "by": by, "files": digest, "claims": list(seen)})


def note_of(folder: Path, name: str) -> Mapping[str, Any] | None:
    """A note about the files that are there now; None where there is none, or it is about others."""
    listed = manifest.load(str(folder))
    try:
        found = json_files.read(folder / name)
    except (OSError, ValueError):
        return None
    fits = listed and isinstance(found, dict) and found.get("files") == manifest.files_digest(listed["files"])
    return found if fits else None


def same(one: Path, other: Path) -> bool:
    """Whether two paths name one place, be they there or not."""
    try:
        return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))
    except ValueError:  # NUL
        return False

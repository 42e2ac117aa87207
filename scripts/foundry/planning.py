"""What deploying a package into a Foundry cache comes down to. Changes nothing, and does not open the runtime.

A model that was rebuilt becomes the next version beside the one before; what answers with the same files stays the
version that it is, and is put in place again where what is told of it changed.
Versions of one name are whole numbers, never used twice while any of them stands.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scripts.common.errors import IngotError
from scripts.common.manifest import Files
from scripts.common.model_id import alias_of, parse
from scripts.foundry import cache as caches
from scripts.foundry import discovery, marks
from scripts.foundry.cache import INDEX, MARKER
from scripts.foundry.marks import ROLLED_BACK, Own, same
from scripts.results import measured

Action = Literal["deployed", "reused", "registered again", "replaced", "rolled back"]


@dataclass(frozen=True)
class Plan:
    """`action`: "replaced" mends a folder that is not whole; "rolled back": the user took this content back, and
    nothing is to be done. `stale` are the ids to unregister first.
    """

    action: Action
    id: str
    folder: Path
    stale: tuple[str, ...] = ()


def plan(cache: Path, package_id: str, files: Files, renamed: Callable[[str], Files]) -> Plan:
    """Compare a package, whose files these are, with a cache; `renamed`: what it holds when deployed under an id.

    Raises `IngotError` if the model's place, name or id is taken by something that Ingot did not put there, or the
    index cannot be read.
    """
    known = marks.versions(cache, parse(package_id).name)
    found = _of_content(known, files, parse(package_id).version)
    model_id = found.id if found else _next(known, package_id)
    folder = found.folder if found else caches.home_of(cache, model_id)
    if (folder.exists() or folder.is_symlink()) and marks.owner(folder) != model_id:
        raise IngotError(folder, "is in the way and was not put there by Ingot", "Move it, or name the model otherwise")
    if found and found.taken_back == ROLLED_BACK:
        return Plan("rolled back", model_id, folder)
    if rival := next(_rivals(cache, model_id, folder), None):
        raise IngotError(
            rival, f"holds another model called {model_id}", "Remove one of them, or name the model otherwise"
        )
    registered = caches.registrations(cache)
    for other, path in registered.items():
        if other.casefold() == model_id.casefold() and not is_ingots(path, folder, model_id):
            raise IngotError(
                cache / INDEX,
                f"{other} is registered for {path}, which Ingot did not put there",
                "Unregister it, or name the model otherwise",
            )
    stale = stale_ids(registered, folder, model_id)
    if not found:
        return Plan("deployed", model_id, folder, stale)
    expected = renamed(model_id)
    if found.taken_back:  # its marker is put back anyway
        expected = {name: file for name, file in expected.items() if name != MARKER}
    if caches.differences(folder, expected):
        return Plan("replaced", model_id, folder, stale)
    if stale == (model_id,) and same(registered[model_id], folder) and not found.taken_back:
        return Plan("reused", model_id, folder, stale)
    return Plan("registered again", model_id, folder, stale)


def _of_content(known: list[Own], files: Files, least: int) -> Own | None:
    """The version that this content is already, `least` or later: the newest that is listed, or a newer one that was
    taken back.
    """
    content = measured.served(files)
    for own in known:
        if own.version < least:
            return None
        if marks.content(own) == content:
            return own
        if not own.taken_back:
            return None
    return None


def _next(known: list[Own], package_id: str) -> str:
    name, number = parse(package_id).name, parse(package_id).version
    return f"{name}:{max([number, *(own.version + 1 for own in known)])}"


def stale_ids(registered: dict[str, Path], folder: Path, model_id: str) -> tuple[str, ...]:
    """Registrations that go when this model does: of its id, as far as they are Ingot's, and of its folder."""
    return tuple(
        other
        for other, path in registered.items()
        if same(path, folder) or (other.casefold() == model_id.casefold() and is_ingots(path, folder, model_id))
    )


def is_ingots(path: Path, folder: Path, model_id: str) -> bool:
    """Whether a registration of this id is Ingot's: for this folder, for another copy of it, or for the place where
    it was before the whole cache was moved.
    """
    if same(path, folder):
        return True
    with contextlib.suppress(OSError):  # a name that is too long
        if path.exists():
            return marks.owner(path) == model_id
    return path.parts[-2:] == folder.parts[-2:]


def misplaced(cache: Path, aliases: Container[str] | None = None) -> dict[str, Path]:
    """Registrations that are Ingot's and point to where there is no such version: its folder is gone, or is where the
    whole cache was moved to. `aliases`: of these alone. Raises `IngotError` if the index cannot be read.
    """
    here = {own.id: own.folder for own in marks.ours(cache)}
    found = {}
    for model_id, path in caches.registrations(cache).items():
        folder = here.get(model_id) or caches.home_of(cache, model_id)
        wrong = not same(path, folder) if model_id in here else not os.path.lexists(path)
        if wrong and is_ingots(path, folder, model_id) and (aliases is None or alias_of(model_id) in aliases):
            found[model_id] = path
    return found


def _rivals(cache: Path, model_id: str, folder: Path) -> Iterator[Path]:
    """Folders of others that a scanning runtime would list under the same name: it would silently take either."""
    for here, name in discovery.listed(cache):
        if name.casefold() == model_id.casefold() and not same(here, folder) and not caches.is_scratch(here):
            yield here

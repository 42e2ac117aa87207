"""Which models in a cache a runtime finds, folder by folder, and by which rule it does not: the rules, replayed.

Runtimes up to SDK 2.0.1 scan: below each folder of the cache's root, at any depth, the first folder with
`genai_config.json` and `inference_model.json` and without `download.tmp` is a model, and nothing inside it is looked
at. Its name is the text at `Name`; without a version it gets `:0`; of two of one name one wins, and nobody is told.
Later ones list what is registered in the cache's index. (Source: local_model_scanner.cc of Foundry Local; runs of
2.0.1.)

Nothing is changed, and no folder is too strange: a link is followed once, what can't be read is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.common import json_files
from scripts.common.model_id import is_id
from scripts.foundry import cache as caches
from scripts.foundry import marks

_PARTIAL = "download.tmp"
_SIGNS = {caches.SETTINGS, caches.MARKER, _PARTIAL}
#: Folders that are looked at: a cache may be a home folder by mistake.
MOST = 20_000


@dataclass(frozen=True)
class Folder:
    """A folder that looks like a model's. `name`: as a scanner lists it, None where `broken` says why it does not;
    `ids`: as it is registered. `note`: what else is to be said.
    """

    path: Path
    name: str | None
    broken: str = ""
    ids: tuple[str, ...] = ()
    note: str = ""


def replay(cache: Path) -> list[Folder]:
    """Every folder of a cache that looks like a model's, and every registration that points elsewhere.

    Raises `IngotError` where the index can't be read: then no runtime that goes by it lists anything.
    """
    registered = caches.registrations(cache)
    found = list(_judged(cache))
    names = [folder.name for folder in found if folder.name]
    rows = []
    for folder in found:
        ids = tuple(sorted(name for name, path in registered.items() if marks.same(path, folder.path)))
        twice = names.count(folder.name) - 1 if folder.name else 0
        note = f"{twice} more by that name: only one of them is listed, and which is chance" if twice else folder.note
        rows.append(replace(folder, ids=ids, note=note))
    elsewhere = {name: path for name, path in registered.items() if not any(name in row.ids for row in rows)}
    for name, path in sorted(elsewhere.items()):
        there = (path / caches.SETTINGS).is_file()
        why = "it lies outside the cache" if there else "the folder is gone, so that it is listed but can't be run"
        rows.append(Folder(path, None, why, (name,)))
    return rows


def told(folder: Folder) -> tuple[bool, str]:
    """Whether every rule is passed, and what is to be said."""
    scan = f"lists it as {folder.name}" if folder.name else f"does not list it: {folder.broken}"
    listed = f"a runtime that scans {scan}"
    by = f"registered as {', '.join(folder.ids)}" if folder.ids else "not registered: SDK 2.1 and later do not list it"
    wrong = [name for name in folder.ids if not is_id(name)]
    parts = [listed, by, *([f"{wrong[0]} is not an id that later runtimes take"] if wrong else [])]
    return bool(folder.name and folder.ids and not folder.note and not wrong), "; ".join(
        [*parts, *([folder.note] if folder.note else [])]
    )


def _judged(cache: Path) -> Iterator[Folder]:
    seen: set[str] = set()

    def walk(path: Path, inside: Path | None) -> Iterator[Folder]:
        real = os.path.realpath(path)
        if real in seen or len(seen) >= MOST:
            return
        seen.add(real)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            names = {entry.name for entry in entries if not _is_folder(entry)}
        except OSError as error:
            yield Folder(path, None, f"it can't be read ({error.strerror})")
            return
        model = inside
        if path == cache:
            if {caches.SETTINGS, caches.MARKER} <= names:
                yield Folder(path, None, "it is the cache's root, and only what is below is scanned")
        elif names & _SIGNS:
            folder = _one(path, names, inside)
            yield folder
            whole = {caches.SETTINGS, caches.MARKER} <= names and _PARTIAL not in names
            model = inside or (path if whole else None)
        for entry in entries:
            if _is_folder(entry):
                yield from walk(Path(entry.path), model)

    yield from walk(cache, None)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _one(path: Path, names: set[str], inside: Path | None) -> Folder:
    if inside:
        return Folder(path, None, f"it lies inside another model's folder, {inside.name}")
    if _PARTIAL in names:
        return Folder(path, None, f"there is a {_PARTIAL}, which marks a download that is not over")
    if caches.SETTINGS not in names:
        return Folder(path, None, f"it has no {caches.SETTINGS}")
    if caches.MARKER not in names:
        why = (marks.mark_of(path) or {}).get("taken_back")
        return Folder(path, None, f"it was taken back ({why})" if why else f"it has no {caches.MARKER}")
    try:
        value = json_files.read(path / caches.MARKER)
    except (OSError, ValueError) as error:
        return Folder(path, None, f"{caches.MARKER} can't be read ({_line(error)})")
    name = value.get("Name") if isinstance(value, dict) else None
    if isinstance(name, str) and name:
        return Folder(path, name if ":" in name else f"{name}:0", note=_unlike(name))
    lower = isinstance(value, dict) and "name" in value
    return Folder(path, None, f"{caches.MARKER} has no text at Name" + ("; `name` is not it" if lower else ""))


def _unlike(name: str) -> str:
    return "" if ":" in name else "its Name has no version, so that it counts as version 0"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]

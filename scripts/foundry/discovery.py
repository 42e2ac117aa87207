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
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.common import json_files, json_values
from scripts.common.model_id import is_id
from scripts.foundry import cache as caches
from scripts.foundry import marks

_PARTIAL = "download.tmp"
_WHOLE = {caches.SETTINGS, caches.MARKER}
_SIGNS = {*_WHOLE, _PARTIAL}
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


def listed(cache: Path) -> Iterator[tuple[Path, str]]:
    """Every folder of a cache that a scanning runtime would list, however many there are, and under which name."""
    for folder in _judged(cache, sys.maxsize):
        if folder.name:
            yield folder.path, folder.name


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


def _judged(cache: Path, most: int = MOST) -> Iterator[Folder]:
    """What lies inside a model's folder comes last: a link there may lead to what is listed where it is."""
    seen = set[str]()
    ahead, inside = list[tuple[Path, Path | None]]([(cache, None)]), list[tuple[Path, Path | None]]()
    while (ahead or inside) and len(seen) < most:
        path, model = (ahead or inside).pop()
        if path != cache and not _is_new(path, seen):
            continue
        names, below = {name for name in _SIGNS if _is_there(path / name)}, list[Path]()
        try:
            below = sorted((Path(entry.path) for entry in os.scandir(path) if _is_folder(entry)), reverse=True)
        except OSError as error:
            if not names:
                yield Folder(path, None, f"it can't be read ({error.strerror})")
        if path == cache:
            if names >= _WHOLE:
                yield Folder(path, None, "it is the cache's root, and only what is below is scanned")
        elif names:
            yield _one(path, names, model)
            model = model or (path if names == _WHOLE else None)
        (inside if model else ahead).extend((folder, model) for folder in below)


def _is_new(path: Path, seen: set[str]) -> bool:
    """Whether a folder was not seen yet, by whichever path; now it was. The root, where a link leads back, is one."""
    before = len(seen)
    seen.add(os.path.realpath(path))
    return len(seen) > before


def _is_there(path: Path) -> bool:
    """As a scanner sees it: a folder counts, a link to nothing does not."""
    try:
        return path.exists()
    except OSError:
        return False


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
        marker = json_files.read_bytes(path / caches.MARKER)
        if name := caches.name_in(marker):
            return Folder(path, caches.named(marker), note=_unlike(name))
        value = json_values.parse(marker.decode("utf-8-sig"), strict=False)
    except (OSError, ValueError) as error:
        return Folder(path, None, f"{caches.MARKER} can't be read ({_line(error)})")
    lower = isinstance(value, dict) and "name" in value
    return Folder(path, None, f"{caches.MARKER} has no text at Name" + ("; `name` is not it" if lower else ""))


def _unlike(name: str) -> str:
    return "" if ":" in name else "its Name has no version, so that it counts as version 0"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]

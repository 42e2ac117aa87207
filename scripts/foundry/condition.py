"""What `doit doctor` says of the Foundry cache, of each folder in it, and of the `foundry` command where there is one.

Each function gives findings as (status, what, found, remedy), status being "ok", "warn" or "bad". Nothing is changed.
"""

from __future__ import annotations

import shutil
import tempfile

from scripts.common import process
from scripts.common.errors import IngotError
from scripts.common.visible import line
from scripts.foundry import cache as caches
from scripts.foundry import discovery, marks

Finding = tuple[str, str, str, str]
#: So many folders of a cache are told.
MOST = 40
_CACHE, _COMMAND, _FOLDER = "Foundry cache", "`foundry` command", "in the cache"


def cache(setting: str) -> Finding:
    """Can the cache be read and written? `setting`: as `foundry.cache` in models.toml has it."""
    try:
        where = caches.resolve(setting)
        models = len(caches.registrations(where))
    except IngotError as error:
        return "bad", _CACHE, f"{error.subject}: {error.found}", error.remedy
    nearest = next(path for path in (where, *where.parents) if path.exists())
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(None, "is a file")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        found = f"{nearest} cannot be written: {error.strerror or error}"
        return "bad", _CACHE, found, "Make it writable, or set foundry.cache in models.toml"
    return "ok", _CACHE, f"{where} ({f'{models} models registered' if where.is_dir() else 'to be made'})", ""


def folders(setting: str) -> list[Finding]:
    """For each folder that looks like a model's, whoever put it there: which runtimes find it, and which not."""
    try:
        where = caches.resolve(setting)
        found = discovery.replay(where) if where.is_dir() else []
    except IngotError:
        return []  # `cache` tells it
    told: list[Finding] = []
    for folder in found[:MOST]:
        inside = folder.path.is_relative_to(where)
        passed, text = discovery.told(folder)
        place = folder.path.relative_to(where).as_posix() if inside else str(folder.path)
        told.append(("ok" if passed else "warn", _FOLDER, line(f"{place}: {text}"), ""))
    left = len(found) - MOST
    return [*told, *([("ok", _FOLDER, f"and {left} more folders", "")] if left > 0 else [])]


def command(setting: str) -> Finding:
    """The command: which cache it opens, and whether it lists what Ingot put there."""
    path = shutil.which("foundry")
    if path is None:
        remedy = "Nothing to do: the runtime above is the same. Install Foundry Local to use models from a shell"
        return "warn", _COMMAND, "not there", remedy
    try:
        own, where = caches.resolve("auto"), caches.resolve(setting)
        if not marks.same(own, where):
            return "ok", _COMMAND, f'{path}; its cache is {own}: foundry.cache = "auto" deploys there', ""
        listed = process.capture([path, "cache", "ls"], seconds=60).output
    except (IngotError, OSError) as error:
        return "warn", _COMMAND, f"{path}: {getattr(error, 'found', error)}", "Start Foundry Local, or reinstall it"
    ours = [one for one in marks.ours(own) if not one.taken_back]
    lost = [one.id for one in ours if one.name not in listed and one.name.rpartition("-generic-")[0] not in listed]
    if lost:
        remedy = "It lists what it finds by other rules: see the folders below. `doit serve` finds all of them"
        return "warn", _COMMAND, f"{path}; `foundry cache ls` does not list {', '.join(lost[:3])}", remedy
    return "ok", _COMMAND, f"{path}; `foundry cache ls` lists all {len(ours)} of Ingot's models", ""

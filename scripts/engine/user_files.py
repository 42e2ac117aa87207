"""The user's own files and folders that steps read: by names and contents, never by place."""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from scripts.common import manifest
from scripts.engine.digests import Digests

#: Whether a file, by its name relative to a folder of the user's, belongs to what a step reads; a folder in it, whose
#: name is given with a slash at its end, whether any file in there may.
Belongs = Callable[[str], bool]


class UserInput(NamedTuple):
    """The digest of a file or folder; of a folder, also that of each file by relative path."""

    digest: str
    files: dict[str, str] | None


class UserFiles:
    """Digests of the user's inputs, each found out once, and again after `forget`.

    Of a folder with a `belongs`, the files that belong count, and nothing else, nor a link to nothing. Without one, all
    that is below it counts.
    """

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._known: dict[tuple[str, Belongs | None], UserInput] = {}

    def of(self, path: str, belongs: Belongs | None = None, preflight: str | None = None) -> UserInput:
        """The content of a file or folder. Raises `OSError`, or what `preflight` does, see `Step`."""
        found = self._known.get((path, belongs))
        if found is None:
            listed = _listed(path, belongs)
            if preflight and not all(self._digests.knows(status) for _, status in listed or [("", os.stat(path))]):
                module, _, function = preflight.partition(":")
                getattr(importlib.import_module(module), function)(Path(path))
            if listed is None:
                found = UserInput(self._digests.of(path), None)
            else:
                files: manifest.Files = {
                    name: {"size": status.st_size, "blake3": self._digests.of(f"{path}/{name}", status)}
                    for name, status in listed
                }
                digests = {name: str(file["blake3"]) for name, file in files.items()}
                found = UserInput(manifest.files_digest(files), digests)
            self._known[path, belongs] = found
        return found

    def forget(self, path: str, belongs: Belongs | None = None) -> None:
        """It may have changed: find out again when next asked."""
        self._known.pop((path, belongs), None)

    def written(self, path: str, belongs: Belongs | None = None) -> object:
        """When each file was last written: to see one that changed, and changed back, while it was being read."""
        listed = _listed(path, belongs)
        if listed is None:
            return os.stat(path).st_mtime_ns
        return [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in listed]


def paths_of(path: str, belongs: Belongs | None = None) -> list[str]:
    """The files that count of a file or folder; itself, where it is not there or can't be read."""
    try:
        listed = _listed(path, belongs)
    except OSError:
        return [path]
    return [path] if listed is None else [f"{path}/{name}" for name, _ in listed]


def _listed(path: str, belongs: Belongs | None) -> list[tuple[str, os.stat_result]] | None:
    """The files that count of a folder: relative path and status, sorted; None of what is not a folder."""
    if not os.path.isdir(path):
        return None
    if belongs is None:
        return manifest.walk(path)
    return sorted(_belonging(path, belongs, ""))


def _belonging(path: str, belongs: Belongs, below: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(path) as entries:
        for entry in entries:
            name = below + entry.name
            if belongs(f"{name}/") and entry.is_dir():
                yield from _belonging(entry.path, belongs, f"{name}/")
            elif belongs(name):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # a link to nothing
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield name, status

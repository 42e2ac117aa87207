"""The user's own files and folders that steps read: by names and contents, never by place."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import NamedTuple

from scripts.common import manifest
from scripts.engine.digests import Digests


class UserInput(NamedTuple):
    """The digest of a file or folder; of a folder, also that of each file by relative path."""

    digest: str
    files: dict[str, str] | None


class UserFiles:
    """Digests of the user's inputs, each looked up once, and again after `forget`."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._known: dict[str, UserInput] = {}

    def of(self, path: str, preflight: str | None = None) -> UserInput:
        """The content of a file or folder. Raises `OSError`, or what `preflight` does, see `Step`."""
        found = self._known.get(path)
        if found is None:
            if preflight and not self._has_been_read(path):
                module, _, function = preflight.partition(":")
                getattr(importlib.import_module(module), function)(Path(path))
            if os.path.isdir(path):
                files: manifest.Files = {
                    name: {"size": status.st_size, "blake3": self._digests.of(f"{path}/{name}", status)}
                    for name, status in manifest.walk(path)
                }
                digests = {name: str(file["blake3"]) for name, file in files.items()}
                found = UserInput(manifest.files_digest(files), digests)
            else:
                found = UserInput(self._digests.of(path), None)
            self._known[path] = found
        return found

    def forget(self, path: str) -> None:
        """It may have changed: look again when next asked."""
        self._known.pop(path, None)

    def written(self, path: str) -> object:
        """When each file was last written: to see one that changed, and changed back, while it was being read."""
        if os.path.isdir(path):
            return [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in manifest.walk(path)]
        return os.stat(path).st_mtime_ns

    def _has_been_read(self, path: str) -> bool:
        found = [status for _, status in manifest.walk(path)] if os.path.isdir(path) else [os.stat(path)]
        return all(map(self._digests.knows, found))

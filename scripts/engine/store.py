"""Earlier outputs, by key: going back to other weights, another recipe or branch restores instead of building.

An object is a folder `build/store/<key>` like an artifact, with its manifest. Big files are shared with the outputs
(reflink, else hard link) and read-only; small ones are copies. Because a shared file can be edited in place by somebody
who insists, nothing is restored that is not, by stamp or by content, what its manifest says. Links stay links: what
they point to is the user's own and never comes here.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from scripts.common import manifest
from scripts.engine import publish, tree
from scripts.engine.digests import Digests


@dataclass(frozen=True)
class Object:
    """One stored output: its key, when it was last stored or restored (seconds), the bytes that only it holds."""

    key: str
    used: float
    size: int


class Store:
    """The store of one build folder. Its methods raise `OSError` where the disk says no."""

    def __init__(self, build: Path, digests: Digests) -> None:
        self.folder = build / "store"
        self._digests = digests

    def has(self, key: str) -> bool:
        """Whether there is such an object; whether it is whole shows when it is restored."""
        return os.path.isdir(self.folder / key)

    def keep(self, folder: Path, key: str, work: Path) -> None:
        """Store a finished folder, manifest included; `work` is a private folder on the same file system."""
        made = f"{work}/object"
        tree.clone(str(folder), made, self._digests)
        tree.make_read_only(made, self._digests)
        self.folder.mkdir(exist_ok=True)
        if self.has(key):
            os.rename(self.folder / key, work / "object.old")
        os.rename(made, self.folder / key)

    def restore(self, key: str, folder: Path) -> manifest.Files | None:
        """Make `folder` what was stored; its files, or None where there is no such object, or it is not whole."""
        stored = str(self.folder / key)
        found = manifest.read(stored)
        if found is None:
            return None
        try:
            whole = not manifest.differences(found[0], manifest.scan(stored, self._digests.of, follow=False))
            if whole:
                tree.clone(stored, str(folder), self._digests)
                os.utime(stored)
        except OSError as error:
            # `doit gc` at the same time, or a link to nothing; a link to a folder, or what is no file
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ELOOP):
                raise
            whole = False
        if not whole:
            tree.remove(str(folder), self._digests)
            tree.remove(stored, self._digests)
            return None
        for name in (manifest.MANIFEST, manifest.PROVENANCE):
            (folder / name).unlink()
        return found[0]

    def drop(self, key: str) -> None:
        """Remove an object, if there is one."""
        if self.has(key):
            # Away under its name first: half an object must never be found under a key.
            with publish.workspace(self.folder.parent, "gc", self._digests) as work:
                os.rename(self.folder / key, work / "object")

    def objects(self) -> list[Object]:
        """All objects, the least recently used first."""
        if not self.folder.is_dir():
            return []
        found = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(OSError):
                files = [status for _, status in manifest.walk(entry.path, follow=False) if status.st_nlink == 1]
                found.append(Object(entry.name, entry.stat().st_mtime, sum(status.st_size for status in files)))
        return sorted(found, key=lambda item: item.used)

    def collect(self, keep_bytes: int, in_use: Collection[str]) -> list[Object]:
        """Remove the least recently used objects that no output is of, until the rest hold at most so many bytes."""
        unused = [item for item in self.objects() if item.key not in in_use]
        left, gone = sum(item.size for item in unused), []
        for item in unused:
            if left <= keep_bytes:
                break
            self.drop(item.key)
            left -= item.size
            gone.append(item)
        return gone

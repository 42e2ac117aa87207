"""Artifacts: a folder, the manifest of what is in it, and the provenance that says what it was made from.

`manifest.json` lists outputs alone (relative path, size, BLAKE3), so two builds that came out the same have the same
manifest, and whoever depends on it need not run. `provenance.json` holds the key and all that went into it.
Both are inside the folder: they appear, and go, together with what they describe.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.common.hashes import digest_bytes

MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"
#: About an artifact, not part of it.
NOT_CONTENT = frozenset({MANIFEST, PROVENANCE})

#: Relative path with forward slashes → {"size": bytes, "blake3": hexadecimal}.
Files = dict[str, dict[str, Any]]


def walk(folder: str, *, follow: bool = True) -> list[tuple[str, os.stat_result]]:
    """Every file below `folder`: relative path with forward slashes, and status, symlinks to files followed; sorted.

    Unless `follow`, a symlink to a folder raises `OSError`: it could lead anywhere.
    """
    found: list[tuple[str, os.stat_result]] = []
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                try:
                    if entry.is_dir():
                        if not follow and entry.is_symlink():
                            raise OSError(errno.EINVAL, "is a link to a folder", entry.path)
                        pending.append(name)
                    else:
                        found.append((name, entry.stat()))
                except FileNotFoundError as error:
                    raise OSError(error.errno, "is a link to nothing", entry.path) from None
    return sorted(found)


def scan(folder: str, digest: Callable[[str, os.stat_result], str], *, follow: bool = True) -> Files:
    """What is in an artifact, all but manifest and provenance; `digest` is given each file's path and status.

    Raises `OSError` (a dangling link, an unreadable file, a pipe).
    """
    return {
        name: {"size": status.st_size, "blake3": digest(f"{folder}/{name}", status)}
        for name, status in walk(folder, follow=follow)
        if name not in NOT_CONTENT
    }


def files_digest(files: Files) -> str:
    """The digest of a manifest's content."""
    return digest_bytes(json.dumps(files, sort_keys=True).encode())


def write(folder: Path, files: Files, provenance: dict[str, Any]) -> None:
    """Put both files into a folder that nobody else sees yet."""
    for name, value in ((MANIFEST, {"files": files}), (PROVENANCE, provenance)):
        text = json.dumps(value, indent=1, sort_keys=True) + "\n"
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def read(folder: str) -> tuple[Files, dict[str, Any]] | None:
    """(files, provenance) of an artifact; None where either file is missing or not as Ingot writes it."""
    listed, provenance = load(folder), _object(f"{folder}/{PROVENANCE}")
    return None if listed is None or provenance is None else (listed["files"], provenance)


def load(folder: str) -> dict[str, Any] | None:
    """A folder's whole manifest, its `files` checked; None where it is missing or not as Ingot writes it."""
    value = _object(f"{folder}/{MANIFEST}")
    files = value.get("files") if value else None
    if not isinstance(files, dict):
        return None
    valid = all(isinstance(file, dict) and file.keys() == {"size", "blake3"} for file in files.values())
    return value if valid else None


def _object(path: str) -> dict[str, Any] | None:
    try:
        value = json_files.read(path)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def differences(expected: Files, found: Files) -> list[str]:
    """What a person would say of a folder that is not what its manifest says; empty if it is."""
    said = [f"{name} is missing" for name in expected if name not in found]
    said += [f"{name} was added" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        if expected[name] != found[name]:
            sizes = expected[name]["size"], found[name]["size"]
            said.append(f"{name} changed" + (f" (was {sizes[0]} bytes, is {sizes[1]})" if sizes[0] != sizes[1] else ""))
    return sorted(said)

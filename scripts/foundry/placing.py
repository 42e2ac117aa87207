"""Folders of models in a Foundry cache: put together unseen, put in place whole, removed so that they are still known.

A package is made for the first version of a model. What holds the id, `inference_model.json` and the model card, is
written anew for the version that it is deployed as (`renamed`); every other file is linked or copied as it is.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.common import folders, json_files, links, moving
from scripts.common.errors import IngotError
from scripts.common.hashes import digest_bytes
from scripts.common.manifest import MANIFEST, Files
from scripts.common.model_files import CARD
from scripts.foundry import cache as caches
from scripts.foundry.cache import MARKER
from scripts.foundry.marks import FOLDER, NOTES

_BIG = 1 << 20  # bytes from which a file is linked rather than copied


def renamed(package: Path, name: str, package_id: str, model_id: str) -> bytes | None:
    """The content of a package's file that tells its id, for another version; None of a file that does not."""
    if package_id == model_id or (name != MARKER and name != CARD):
        return None
    return (package / name).read_bytes().replace(package_id.encode(), model_id.encode())


def files_of(package: Path, files: Files, package_id: str, model_id: str) -> Files:
    """What a folder holds into which a package, whose files these are, is deployed as `model_id`."""
    found = dict(files)
    for name in files:
        if (data := renamed(package, name, package_id, model_id)) is not None:
            found[name] = {"size": len(data), "blake3": digest_bytes(data)}
    return found


def stage(
    package: Path, files: Files, mark: dict[str, Any], package_id: str, folder: Path, check: Callable[[Path], None]
) -> tuple[Path, list[str]]:
    """Everything but the marker, under a hidden name; the manifest first, since it says whose the folder is.

    `files` are those of the deployed folder. Returns the folder, and what is worth telling. Raises `IngotError` where
    the package is not as its manifest says, `OSError` where there is no room, and what `check` raises of the folder;
    then nothing is left.
    """
    staged, reasons = beside(folder, "new"), list[str]()
    size = sum(int(file["size"]) for file in files.values())
    staged.mkdir(parents=True)
    try:
        json_files.write(staged / MANIFEST, {"ingot": mark, "files": files})
        free = shutil.disk_usage(staged).free
        if staged.stat().st_dev != package.stat().st_dev and free < size:
            raise OSError(errno.ENOSPC, f"{size} bytes needed, {free} free", str(folder))
        for name in files:
            if name == MARKER:
                continue
            print(f"deploy: {name}", flush=True)
            data = renamed(package, name, package_id, str(mark["id"]))
            if data is not None:
                write(staged / name, data)
            elif place(package / name, staged / name) == "copy" and files[name]["size"] >= _BIG:
                reasons.append(f"{name} was copied: the cache is on another file system")
        if found := caches.differences(staged, {name: file for name, file in files.items() if name != MARKER}):
            raise IngotError(package, f"is not as its manifest says: {'; '.join(found)}", "Build the package again")
        check(staged)
    except BaseException:
        discard(staged)
        raise
    return staged, reasons


def place(source: Path, target: Path) -> str:
    """Give `target` the content of `source`: big files by link, small ones copied, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_size >= _BIG:
        return links.link(source, target)
    write(target, source.read_bytes())
    return "copy"


def write(target: Path, data: bytes) -> None:
    """A small file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.tmp")
    with work.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    work.replace(target)


def swap(staged: Path, folder: Path) -> None:
    """Put the staged folder in place of what is there, which ends up under a hidden name without its marker."""
    folders.flush(staged)
    if not folder.exists():
        moving.move(staged, folder)
    elif folders.exchange(staged, folder):
        (staged / MARKER).unlink(missing_ok=True)
    else:
        # Windows lets no folder be moved in which a file is open: then everything stays as it was.
        old = beside(folder, "old")
        moving.move(folder, old)
        try:
            moving.move(staged, folder)
        except OSError:
            moving.move(old, folder)
            raise
        (old / MARKER).unlink(missing_ok=True)
    folders.flush_folder(folder.parent)


def sweep(cache: Path) -> None:
    """Remove what killed deployments left in Ingot's folder of the cache. The caller holds the lock."""
    parent = cache / FOLDER
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink() and caches.is_scratch(folder):
            discard(folder)


def tidy(folder: Path) -> None:
    """Remove what a kill left of writing Ingot's own small files in a folder of its own. The caller holds the lock."""
    for path in folder.glob(".*.tmp"):
        if any(path.name.startswith(f".{name}.") for name in (MANIFEST, MARKER, *NOTES)):
            path.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove a folder of Ingot's, the marker first and the manifest last: half removed, it is still known as such."""
    (folder / MARKER).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif path != folder / MANIFEST:
            moving.unlink(str(path))
    (folder / MANIFEST).unlink(missing_ok=True)
    folder.rmdir()


def beside(folder: Path, what: str) -> Path:
    """The hidden name of a folder that is coming ("new") or going ("old")."""
    return folder.with_name(f".{folder.name}.{what}")

"""Work in private, appear whole: work folders, their locks, the exchange that publishes, the sweep after a death.

A step works in a folder of its own below `build/.work`, so on the file system of its output. Publishing swaps the
finished folder with the one under the final name, in one system call where there is one (Linux); else the
old is moved aside first, and a note lets the next build put it back. Whatever dies, and whenever, what is under a final
name is whole.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.common import folders, json_files, moving
from scripts.common.alive import is_alive
from scripts.engine import tree
from scripts.engine.digests import Digests
from scripts.engine.step import Step

WORK = ".work"
_NOTE, _ASIDE = "aside.json", "old"
_ABANDONED_SECONDS = 3600
_numbers = itertools.count(1)


@contextlib.contextmanager
def workspace(build: Path, step: str, digests: Digests) -> Iterator[Path]:
    """A private folder for one run of a step, removed afterwards; `build/.work/<step>.<pid>.<n>`."""
    from filelock import FileLock

    folder = build / WORK / f"{step.replace(':', '.')}.{os.getpid()}.{next(_numbers)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock"):  # before the folder is there, so that no sweep finds it unlocked
            try:
                folder.mkdir()
                yield folder
            finally:
                tree.remove(str(folder), digests)
    finally:
        _drop_locks_of(str(folder))


def publish(folder: Path, final: Path, build: Path) -> None:
    """Put a finished `folder`, flushed, below a work folder, in place of `final`; the old one, if any, goes away."""
    final.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(final):
        moving.move(folder, final)
    elif not folders.exchange(folder, final):
        aside = folder.parent / _ASIDE
        (folder.parent / _NOTE).write_text(json.dumps({"final": final.relative_to(build).as_posix()}), encoding="utf-8")
        moving.move(final, aside)
        moving.move(folder, final)
    folders.flush_folder(final.parent)


def publish_file(file: Path, final: Path) -> None:
    """Put a finished file in place of `final`."""
    folders.flush_file(str(file))
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.is_dir() and not final.is_symlink():  # somebody's, where our file belongs
        moving.move(final, file.with_name(f"{file.name}.{_ASIDE}"))
    moving.move(file, final)
    folders.flush_folder(final.parent)


def publish_result(file: Path, provenance: Any, step: Step, work: Path) -> None:
    """Put a finished file in place of a step's result, and what it was made from, by way of the file `work`.

    They are two files, so the second is announced before the first moves: whatever dies between, the result that is
    there has the provenance that names its digest, the old one or the new.
    """
    publish_json(provenance, Path(step.announced), work)
    publish_file(file, step.output)
    moving.move(Path(step.announced), Path(step.provenance))
    folders.flush_folder(Path(step.provenance).parent)


def publish_json(value: Any, final: Path, work: Path) -> None:
    """Put a JSON file in place of `final`, by way of the file `work`, which nobody else writes."""
    work.write_text(json_files.dumps(value) + "\n", encoding="utf-8", newline="\n")
    publish_file(work, final)


def sweep(build: Path, digests: Digests) -> list[str]:
    """Clear what dead builds left below `build/.work`; returns the names of what was cleared.

    A folder is dead if neither its build nor its child holds its lock. Where the death fell between the two moves of
    a publish without exchange, the old artifact is put back first.
    """
    left = sorted(os.scandir(build / WORK), key=lambda entry: entry.name)
    if not left:
        return []
    from filelock import Timeout  # its import is a tenth of a no-op

    swept = []
    for folder in (build / WORK / entry.name for entry in left if entry.is_dir()):
        with contextlib.suppress(Timeout):
            with _dead(folder):
                if folder.is_dir():
                    swept.append(folder.name)
                _recover(folder, build)
                tree.remove(str(folder), digests)
            _drop_locks_of(str(folder))
    for entry in left:  # of a death between lock and folder; a young one may be just being taken
        with contextlib.suppress(OSError):
            folder_name = entry.path.removesuffix(".lock").removesuffix(".child")
            if entry.name.endswith(".lock") and not os.path.exists(folder_name):
                _drop_lock(entry)
    return swept


def worked_at(build: Path) -> list[str]:
    """The names of the steps that builds are at, also in other processes; with "." for ":"."""
    from filelock import Timeout

    found = []
    for folder in filter(Path.is_dir, (build / WORK).glob("*")):
        try:
            with _dead(folder):
                pass
        except Timeout:
            found.append(folder.name.rsplit(".", 2)[0])
        else:
            if not folder.exists():  # it ended meanwhile
                _drop_locks_of(str(folder))
    return found


@contextlib.contextmanager
def _dead(folder: Path) -> Iterator[None]:
    """Hold the locks of a work folder that neither its build nor its child holds; else raises `filelock.Timeout`."""
    from filelock import FileLock

    with FileLock(f"{folder}.lock", timeout=0), FileLock(f"{folder}.child.lock", timeout=0):
        yield


def _drop_locks_of(folder: str) -> None:
    """After they were let go: Windows removes nothing that is open, and nobody waits for a folder that is gone."""
    for end in (".child.lock", ".lock"):
        with contextlib.suppress(OSError):  # another sweep has it, or had it
            os.unlink(f"{folder}{end}")


def _drop_lock(entry: os.DirEntry[str]) -> None:
    """Remove a lock without a folder, if its process is gone (its id is in the name) or it is old."""
    parts = entry.name.removesuffix(".lock").removesuffix(".child").split(".")
    with contextlib.suppress(ValueError, IndexError):
        if is_alive(int(parts[-2])) and time.time() - entry.stat().st_mtime < _ABANDONED_SECONDS:
            return
    os.unlink(entry.path)


def _recover(folder: Path, build: Path) -> None:
    note, aside = folder / _NOTE, folder / _ASIDE
    if not note.exists() or not os.path.lexists(aside):
        return
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        final = Path(os.path.normpath(build / json_files.read(note)["final"]))
        # The note is believed as far as the build's own folder, and no file below it that is a link may lead out.
        if final.parent.resolve().is_relative_to(build.resolve()) and not os.path.lexists(final):
            moving.move(aside, final)

"""Put a package into a Foundry cache and register it; take it out again.

Whatever kills this, at any moment, the cache lists either nothing of the model or a whole one, and the next deploy
finishes the job. The order makes it so:

1. the new folder is put together under a hidden name beside its final one, without `inference_model.json`, so that
   no runtime that scans the cache sees it, and is checked by content;
2. it changes places with the old one, atomically where the system can, so a registration always points at a whole
   model; the old one loses its `inference_model.json`;
3. the old registration goes, `inference_model.json` is written, the new registration is made.

A kill before 3 is over leaves a folder without `inference_model.json` or without a registration, and both are
seen by `cache.plan`. The runtime's own `remove_from_cache` is never called: it deletes whatever it is pointed at.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from scripts.common import folders, json_files, links, moving
from scripts.common.errors import IngotError
from scripts.common.manifest import MANIFEST, Files
from scripts.common.model_id import is_folder_name, parse
from scripts.foundry import cache as caches
from scripts.foundry import marks
from scripts.foundry.cache import MARKER
from scripts.results.base import Outcome
from scripts.results.foundry import Deploy
from scripts.results.quality import Advice
from scripts.runtime.foundry import Runtime, RuntimeFault, label

_IN_USE = (5, 32)  # Windows: access denied (of a folder with an open file), sharing violation
_BIG = 1 << 20  # bytes from which a file is linked rather than copied


def deploy(package: Path, model_id: str, cache: Path, config: Path | None = None) -> Deploy:
    """Make `cache` hold and list the package as `model_id`; returns the content of deploy.json.

    `config`: the configuration that asks for it, to be known by.

    Raises `IngotError` if the cache cannot be written or read, the disk is full, or something of somebody else's
    is in the way; then nothing of what was there has changed.
    """
    if not is_folder_name(parse(model_id).name):
        raise IngotError(model_id, "is a name that Windows has no folders of", "Name the model otherwise")
    files = caches.manifest_of(package)
    marked = caches.marked_name(package / MARKER)
    if marked != model_id:
        raise IngotError(package / MARKER, f"is for the model {marked}, not {model_id}", "Build the package again")
    with _writing(cache), _locked(cache):
        plan = caches.plan(cache, model_id, files)
        sweep(cache)
        reasons: list[str] = []
        if plan.action in ("deployed", "replaced"):
            stage = _stage(package, files, _mark(model_id, config), plan.folder, reasons)
            _swap(stage, plan.folder)
        elif config and (marks.mark_of(plan.folder) or {}).get("config") != str(config):
            json_files.write(plan.folder / MANIFEST, {"ingot": _mark(model_id, config), "files": files})
        with Runtime(cache) as runtime:
            if plan.action != "reused":
                _unregister(runtime, plan.stale)
                _place(package / MARKER, plan.folder / MARKER)
                runtime.register(plan.folder, model_id)
            listed = runtime.cached()
        sweep(cache)
    if model_id not in listed:
        raise RuntimeFault(model_id, f"is registered in {cache} but not listed", "Deploy it again")
    return Deploy(
        verdict="passed",
        reasons=reasons,
        id=model_id,
        cache=str(cache),
        path=str(plan.folder),
        action=plan.action,
        runtime=label(),
    )


def held_back(advice: Advice | None, precision: str, policy: str) -> Outcome | None:
    """Why a precision is not deployed, as verdict and reasons; None if it is.

    `advice` is the result of `recommend`: "refused" if the precision did not pass there, "skipped" if the user's
    `policy` ("all", "recommended", "none") does not want it. What was deployed before stays as it is.
    """
    if policy not in ("all", "recommended", "none"):
        raise IngotError("--policy", f"is {policy!r}", 'Use "all", "recommended" or "none"')
    if advice:
        judged = advice.precisions.get(precision)
        if judged is None:
            known = ", ".join(advice.precisions)
            raise IngotError("--precision", f"{precision!r} is not among those judged", f"Use one of {known}")
        if judged.verdict not in ("passed", "warned"):
            return judged
    if policy == "none":
        return Outcome(verdict="skipped", reasons=['deploy = "none"'])
    if policy == "recommended" and advice and advice.recommended != precision:
        return Outcome(verdict="skipped", reasons=[f'deploy = "recommended", which is {advice.recommended}'])
    return None


def undeploy(model_id: str, cache: Path, folder: Path | None = None) -> str:
    """Take a model that Ingot deployed out of `cache`; says what was done. Others' models are left alone.

    `folder`: where it is, if not where Ingot puts a model of that id.

    Raises `IngotError` if the place or the registration belongs to somebody else, or the index cannot be read.
    """
    folder = folder or caches.home_of(cache, model_id)
    if not cache.is_dir():
        return "nothing there"
    present = folder.exists() or folder.is_symlink()
    if present and marks.owner(folder) is None:
        raise IngotError(folder, "was not put there by Ingot", "Remove it by hand if it should go")
    ids = caches.stale_ids(caches.registrations(cache), folder, model_id)
    if not ids and not (cache / marks.FOLDER).is_dir():
        return "nothing there"
    with _writing(cache), _locked(cache):
        if present:
            (folder / MARKER).unlink(missing_ok=True)
        if ids:
            with Runtime(cache) as runtime:
                _unregister(runtime, ids)
        if present:
            moving.move(folder, _beside(folder, "old"))
        sweep(cache)
    return "removed" if present or ids else "nothing there"


def sweep(cache: Path) -> None:
    """Remove what killed deployments left in Ingot's folder of the cache. The caller holds the lock."""
    parent = cache / marks.FOLDER
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink() and caches.is_scratch(folder):
            _discard(folder)


def _mark(model_id: str, config: Path | None) -> dict[str, str]:
    return {"id": model_id, **({"config": str(config)} if config else {})}


def _stage(package: Path, files: Files, mark: dict[str, str], folder: Path, reasons: list[str]) -> Path:
    """Everything but the marker, under a hidden name; the manifest first, since it says whose the folder is."""
    stage = _beside(folder, "new")
    size = sum(int(file["size"]) for file in files.values())
    stage.mkdir(parents=True)
    try:
        json_files.write(stage / MANIFEST, {"ingot": mark, "files": files})
        free = shutil.disk_usage(stage).free
        if stage.stat().st_dev != package.stat().st_dev and free < size:
            raise OSError(errno.ENOSPC, f"{size} bytes needed, {free} free", str(folder))
        for name in files:
            if name != MARKER:
                print(f"deploy: {name}", flush=True)
                if _place(package / name, stage / name) == "copy" and files[name]["size"] >= _BIG:
                    reasons.append(f"{name} was copied: the cache is on another file system")
        if found := caches.differences(stage, {name: file for name, file in files.items() if name != MARKER}):
            raise IngotError(package, f"is not as its manifest says: {'; '.join(found)}", "Build the package again")
    except BaseException:
        _discard(stage)
        raise
    return stage


def _place(source: Path, target: Path) -> str:
    """Give `target` the content of `source`: big files by link, small ones copied, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_size >= _BIG:
        return links.link(source, target)
    work = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, work)
    with work.open("rb+") as file:
        os.fsync(file.fileno())
    work.replace(target)
    return "copy"


def _swap(stage: Path, folder: Path) -> None:
    """Put the staged folder in place of what is there, which ends up under a hidden name without its marker."""
    folders.flush(stage)
    if not folder.exists():
        moving.move(stage, folder)
    elif folders.exchange(stage, folder):
        (stage / MARKER).unlink(missing_ok=True)
    else:
        # Windows lets no folder be moved in which a file is open: then everything stays as it was.
        old = _beside(folder, "old")
        moving.move(folder, old)
        try:
            moving.move(stage, folder)
        except OSError:
            moving.move(old, folder)
            raise
        (old / MARKER).unlink(missing_ok=True)
    folders.flush_folder(folder.parent)


def _discard(folder: Path) -> None:
    """Remove a folder of Ingot's, the marker first and the manifest last: half removed, it is still known as such."""
    (folder / MARKER).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif path != folder / MANIFEST:
            moving.unlink(str(path))
    (folder / MANIFEST).unlink(missing_ok=True)
    folder.rmdir()


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _unregister(runtime: Runtime, ids: tuple[str, ...]) -> None:
    known = runtime.registered()
    for model_id in ids:
        if model_id in known:
            runtime.unregister(model_id)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One deployment at a time in a cache; says so if it has to wait."""
    (cache / marks.FOLDER).mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(cache / marks.FOLDER / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"deploy: waiting for another deployment into {cache}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Say what the reader can do about a cache that cannot be written."""
    try:
        yield
    except OSError as error:
        remedy = "Make it writable, or set foundry.cache in models.toml to a folder of yours"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            remedy = "Free some space, or set foundry.cache to a folder on another disk"
        elif error.errno == errno.EBUSY or getattr(error, "winerror", None) in _IN_USE:
            remedy = "Close what uses the model, such as a Foundry Local that has it loaded, and deploy again"
        raise IngotError(
            error.filename or cache, f"the Foundry cache cannot be written: {error.strerror or error}", remedy
        ) from error

"""Versions of a deployed model: which of them runtimes list, taking one back and bringing it back, without a build.

A version is listed, or taken back: by `doit rollback`, or because it did not answer as it should. Then its files stay,
without `inference_model.json` and without a registration, so that no runtime lists it, old or new. The manifest says so
and holds that file's text; marker and registration follow it, and `settle` finishes what was killed half way. A client
that asks by alias gets the newest version that is listed.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from scripts.common import json_files, manifest
from scripts.common.errors import IngotError
from scripts.common.manifest import MANIFEST
from scripts.foundry import cache as caches
from scripts.foundry import marks, placing, planning
from scripts.foundry.cache import MARKER
from scripts.foundry.marks import ROLLED_BACK, UNVERIFIED, Own
from scripts.foundry.writing import locked, writing
from scripts.runtime.foundry import Runtime


def take_back(runtime: Runtime, own: Own, why: str) -> None:
    """Have no runtime list a version any more; its files stay."""
    marker = own.folder / MARKER
    text = marker.read_text(encoding="utf-8") if marker.is_file() else own.mark.get("marker", "")
    _remark(own, {**own.mark, "taken_back": why, "marker": text})
    marker.unlink(missing_ok=True)
    path = caches.registrations(runtime.cache).get(own.id, own.folder)
    if own.id in runtime.registered() and planning.is_ingots(path, own.folder, own.id):
        runtime.unregister(own.id)


def bring_back(runtime: Runtime, own: Own) -> None:
    """Have runtimes list a version again."""
    if not (own.folder / MARKER).is_file():
        placing.write(own.folder / MARKER, str(own.mark["marker"]).encode())
    if own.id not in runtime.registered():
        runtime.register(own.folder, own.id, marks.claims(own.folder))
    _remark(own, {key: value for key, value in own.mark.items() if key not in ("taken_back", "marker")})


def settle(runtime: Runtime, cache: Path, name: str, but: str = "") -> None:
    """Have marker and registration of each version of a name be as its manifest says, and none of Ingot's registrations
    of it point to where there is no version; `but` is another's affair.
    """
    for model_id in planning.misplaced(cache):
        if model_id != but and model_id.rpartition(":")[0].casefold() == name.casefold():
            runtime.unregister(model_id)
    registered = runtime.registered()
    for own in marks.versions(cache, name):
        placing.tidy(own.folder)
        if own.id == but:
            continue
        if own.taken_back and ((own.folder / MARKER).exists() or own.id in registered):
            take_back(runtime, own, own.taken_back)
        elif not own.taken_back and own.id not in registered and (own.folder / MARKER).is_file():
            runtime.register(own.folder, own.id, marks.claims(own.folder))


def mend(cache: Path, aliases: Container[str]) -> None:
    """Settle every name with one of these aliases of which a registration of Ingot's is misplaced.

    The runtime is opened only where there is one. Raises `IngotError` where the cache can't be written.
    """
    for name in sorted({model_id.rpartition(":")[0] for model_id in planning.misplaced(cache, aliases)}):
        with writing(cache), locked(cache), Runtime(cache) as runtime:
            settle(runtime, cache, name)


def rollback(cache: Path, name: str, to: int | None = None) -> tuple[list[str], str]:
    """List version `to` of a name (None: the one before the newest that is listed) and none that is newer.

    Returns the ids that were listed before, and the one that a client gets now by the alias. Raises `IngotError` where
    there is no such version, or it is not whole; then nothing has changed.
    """
    with writing(cache), locked(cache):
        known = marks.versions(cache, name)
        listed = [own for own in known if not own.taken_back]
        target = _target(name, known, listed, to)
        placing.tidy(target.folder)
        marked = (target.folder / MARKER).is_file() or not target.taken_back
        files = {name: file for name, file in _files(target).items() if name != MARKER or marked}
        if found := caches.differences(target.folder, files):
            raise IngotError(target.id, f"is not whole: {found[0]}", "Deploy the model again: doit deploy")
        with Runtime(cache) as runtime:
            settle(runtime, cache, name)
            if target.taken_back:
                bring_back(runtime, target)
            for own in listed:
                if own.version > target.version:
                    take_back(runtime, own, ROLLED_BACK)
    return [own.id for own in listed], target.id


def fall_back(cache: Path, model_id: str) -> str | None:
    """Take back a version that does not answer as it should, if an older one is listed that did; the id of that."""
    known = [own for own in marks.versions(cache, model_id.rpartition(":")[0]) if not own.taken_back]
    own = next((one for one in known if one.id == model_id), None)
    if own is None:
        return None
    before = next((one for one in known if one.version < own.version and marks.verified(one.folder)), None)
    if before is None:
        return None
    with writing(cache), locked(cache), Runtime(cache) as runtime:
        take_back(runtime, own, UNVERIFIED)
    return before.id


def _target(name: str, known: list[Own], listed: list[Own], to: int | None) -> Own:
    there = ", ".join(str(own.version) for own in known) or "none"
    if to is None:
        older = [own for own in known if listed and own.version < listed[0].version]
        if not older:
            raise IngotError(name, "there is no version before the one that is listed", f"There are: {there}")
        return older[0]
    found = next((own for own in known if own.version == to), None)
    if found is None:
        raise IngotError(f"{name}:{to}", "there is no such version any more", f"There are: {there}")
    return found


def _files(own: Own) -> manifest.Files:
    listed = manifest.load(str(own.folder))
    return listed["files"] if listed else {}


def _remark(own: Own, mark: dict[str, object]) -> None:
    json_files.write(own.folder / MANIFEST, {"ingot": mark, "files": _files(own)})

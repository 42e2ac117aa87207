"""What `deploy.json` and `reconcile.json` claim of the Foundry cache; seen, without opening the runtime, whether it
still holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.attest.papers import SIGNATURE
from scripts.common.manifest import MANIFEST
from scripts.common.model_id import alias_of
from scripts.foundry import cache as caches
from scripts.foundry import marks, planning


def files(result: Mapping[str, Any]) -> Sequence[str]:
    """The deployed files, their folder, and the runtime's index: while none of them moves, the claim holds."""
    if held := result.get("taken_back"):
        return [str(Path(held) / MANIFEST)]
    if result.get("path") is None:
        return ()
    folder = Path(result["path"])
    index = Path(result["cache"]) / caches.INDEX
    return [str(folder), str(index), *(str(path) for path in sorted(folder.rglob("*")))]


def holds(result: Mapping[str, Any], digest: Callable[[str], str]) -> str | None:
    """None, or what is no longer so: a file that differs, a registration that is gone or points elsewhere."""
    if held := result.get("taken_back"):
        still = (marks.mark_of(Path(held)) or {}).get("taken_back") == marks.ROLLED_BACK
        return None if still else f"{result['id']} is not taken back any more"
    if result.get("path") is None:
        return None
    folder, cache = Path(result["path"]), Path(result["cache"])
    mark = marks.mark_of(folder) or {}
    if mark.get("id") != result["id"]:
        return f"{folder} does not hold {result['id']}"
    if why := mark.get("taken_back"):
        return f"{result['id']} is not listed any more: {why}"
    if changed := caches.differences(folder, caches.manifest_of(folder), digest):
        return f"{folder}: {changed[0]}"
    if result.get("signed") and not (folder / SIGNATURE).is_file():
        return f"{folder}: {SIGNATURE} is missing"
    registered = caches.registrations(cache).get(result["id"])
    if registered is None or not marks.same(registered, folder):
        return f"{result['id']} is not registered for {folder}"
    return None


def undeploy(build: Path) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    """For `doit clean`: the command that takes a model out of the cache again, if that cache is the build's own."""

    def command(result: Mapping[str, Any]) -> Sequence[str]:
        cache = result.get("cache")
        if result.get("path") is None or not cache or not Path(cache).is_relative_to(build):
            return ()
        return ("scripts.foundry", "undeploy", "--model-id", result["id"], "--cache", cache)

    return command


def standing_files(result: Mapping[str, Any]) -> Sequence[str]:
    """Of a reconcile.json: the runtime's index, Ingot's folder in the cache, and each manifest in it."""
    cache = Path(result["cache"])
    places = [own.folder for own in marks.ours(cache)]
    found = [cache / caches.INDEX, cache / marks.FOLDER, *places, *(place / MANIFEST for place in places)]
    return [str(path) for path in found if os.path.lexists(path)]


def standing_holds(result: Mapping[str, Any], _: object) -> str | None:
    """Of a reconcile.json: None, or which model of this configuration came or went since, or is registered for a place
    where it is not.
    """
    config, own_cache = result["config"], result["own_cache"]
    cache, stands = Path(result["cache"]), {one["id"] for one in result["stands"]}
    now = {own.id for own in marks.ours(cache) if own.is_of(config, own_cache)}
    for model_id in sorted(now ^ stands):
        return f"{model_id} {'came into' if model_id in now else 'is no longer in'} the Foundry cache"
    for model_id, path in planning.misplaced(cache, set(map(alias_of, stands))).items():
        return f"{model_id} is registered for {path}, and is not there"
    return None


def standing_remarks(result: Mapping[str, Any]) -> Sequence[str]:
    """Of a reconcile.json: what is in the cache although the build did not deploy it."""
    return [str(reason) for reason in result["reasons"]]


def undeploy_all(build: Path) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    """For `doit clean`: take all of this configuration out of the cache, if that is the build's own."""

    def command(result: Mapping[str, Any]) -> Sequence[str]:
        if not Path(result["cache"]).is_relative_to(build):
            return ()
        return ("scripts.foundry", "undeploy", "--cache", result["cache"], "--config", result["config"])

    return command

"""What a `deploy.json` claims of the Foundry cache; seen, without opening the runtime, whether it still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.foundry import cache as caches


def files(result: Mapping[str, Any]) -> Sequence[str]:
    """The deployed files, their folder, and the runtime's index: while none of them moves, the claim holds."""
    if result.get("path") is None:
        return ()
    folder = Path(result["path"])
    index = Path(result["cache"]) / caches.INDEX
    return [str(folder), str(index), *(str(path) for path in sorted(folder.rglob("*")))]


def holds(result: Mapping[str, Any], digest: Callable[[str], str]) -> str | None:
    """None, or what is no longer so: a file that differs, a registration that is gone or points elsewhere."""
    if result.get("path") is None:
        return None
    folder, cache = Path(result["path"]), Path(result["cache"])
    if caches.owner(folder) != result["id"]:
        return f"{folder} does not hold {result['id']}"
    if changed := caches.differences(folder, caches.manifest_of(folder), digest):
        return f"{folder}: {changed[0]}"
    registered = caches.registrations(cache).get(result["id"])
    if registered is None or not caches.same(registered, folder):
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

"""Put a package into a Foundry cache and register it; take it out again.

Whatever kills this, at any moment, the cache lists what it listed before or a whole new version beside it, and the next
deploy finishes the job. The order makes it so:

1. the new folder is put together under a hidden name beside its final one, without `inference_model.json`, so that
   no runtime that scans the cache sees it, and is checked by content and, where it must be signed, by what was signed;
2. it gets its name; where it mends a version that is not whole, it changes places with that, atomically where the
   system can, so a registration always points at a whole model, and the old one loses its `inference_model.json`;
3. `inference_model.json` is written, the registration is made.

A kill before 3 is over leaves a folder without `inference_model.json` or without a registration, and both are
seen by `planning.plan`. The runtime's own `remove_from_cache` is never called: it deletes whatever it is pointed at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.attest.papers import SIGNATURE
from scripts.attest.signing import Signed
from scripts.common import json_files, moving
from scripts.common.errors import IngotError
from scripts.common.manifest import MANIFEST, Files
from scripts.common.model_id import is_folder_name, parse
from scripts.foundry import cache as caches
from scripts.foundry import marks, placing, planning, signature, versions
from scripts.foundry.cache import MARKER
from scripts.foundry.planning import Plan
from scripts.foundry.writing import locked, writing
from scripts.results.foundry import Deploy
from scripts.runtime.foundry import Runtime, RuntimeFault, label

#: What a plan may leave as it stands.
_KEPT = ("reused", "registered again")


def deploy(
    package: Path, model_id: str, cache: Path, config: Path | None = None, signed: Signed | None = None
) -> Deploy:  # fmt: skip
    """Make `cache` hold and list the package; returns the content of deploy.json.

    `model_id` is the id of the package, a first version's: what was rebuilt is deployed under the next number.
    `config`: the configuration that asks for it, to be known by. `signed`: what it must be; its signature will lie
    beside it. Raises `IngotError` if it is not what was signed, the cache cannot be written or read, the disk is full,
    or something of somebody else's is in the way; then nothing of what was there has changed.
    """
    name = parse(model_id).name
    if not is_folder_name(name):
        raise IngotError(model_id, "is a name that Windows has no folders of", "Name the model otherwise")
    files = caches.manifest_of(package)
    marked = caches.marked_name(package / MARKER)
    if marked != model_id:
        raise IngotError(package / MARKER, f"is for the model {marked}, not {model_id}", "Build the package again")
    if signed:
        signature.refuse_other(package, model_id, signed)
    with writing(cache), locked(cache):
        plan = planning.plan(cache, model_id, files, lambda to: placing.files_of(package, files, model_id, to))
        placing.sweep(cache)
        if plan.action == "rolled back":
            return _rolled_back(cache, name, plan)
        text = placing.renamed(package, MARKER, model_id, plan.id) or (package / MARKER).read_bytes()
        if signed and plan.action in _KEPT and signature.problems(plan.folder, plan.id, signed, text):
            plan = replace(plan, action="replaced")

        def check(staged: Path) -> None:  # the package may have changed since
            if signed:
                signature.refuse_other(package, plan.id, signed, text, staged)

        reasons = _bring_in(package, files, model_id, plan, config, check)
        if signed:
            placing.write(plan.folder / SIGNATURE, signed.signature)
        with Runtime(cache) as runtime:
            versions.settle(runtime, cache, name, but=plan.id)
            if plan.action != "reused":
                _unregister(runtime, plan.stale)
                placing.write(plan.folder / MARKER, text)
                runtime.register(plan.folder, plan.id, marks.claims(plan.folder))
            listed = runtime.cached()
        placing.sweep(cache)
        reasons += _beside(cache, name, config)
    if plan.id not in listed:
        raise RuntimeFault(plan.id, f"is registered in {cache} but not listed", "Deploy it again")
    return Deploy(
        verdict="passed",
        reasons=reasons,
        id=plan.id,
        cache=str(cache),
        path=str(plan.folder),
        action=plan.action,
        runtime=label(),
        signed=signed is not None,
        signed_content=signed.content if signed else None,
    )


def _bring_in(
    package: Path, files: Files, package_id: str, plan: Plan, config: Path | None, check: Callable[[Path], None]
) -> list[str]:
    """The folder of a version, whole but for its marker, and its mark as it should be; what is worth telling."""
    mark: dict[str, Any] = {"id": plan.id}
    mark |= {"config": str(config)} if config else {}
    target = placing.files_of(package, files, package_id, plan.id)
    if plan.action in ("deployed", "replaced"):
        staged, reasons = placing.stage(package, target, mark, package_id, plan.folder, check)
        placing.swap(staged, plan.folder)
        return reasons
    known = marks.mark_of(plan.folder) or {}
    if "taken_back" in known or (config and known.get("config") != str(config)):
        json_files.write(plan.folder / MANIFEST, {"ingot": mark, "files": target})
    return []


def _beside(cache: Path, name: str, config: Path | None) -> list[str]:
    """What other configurations have under the same name: a client that asks by alias gets the newest of all."""
    others = {own.id: own.mark.get("config") for own in marks.versions(cache, name) if not own.taken_back}
    theirs = (f"{model_id}, by {of}" for model_id, of in others.items()
              if config and of and not marks.same(Path(str(of)), config))  # fmt: skip
    found = "; ".join(theirs)
    return [f"another configuration deploys this name here ({found}), and a client that asks by alias gets the newest: "
            f"{marks.APART}"] if found else []  # fmt: skip


def _rolled_back(cache: Path, name: str, plan: Plan) -> Deploy:
    listed = next((own.id for own in marks.versions(cache, name) if not own.taken_back), "nothing")
    reason = f"{plan.id}, which is this build, was taken back by doit rollback; {listed} is served"
    return Deploy(
        verdict="skipped", reasons=[reason], id=plan.id, cache=str(cache), action=plan.action,
        taken_back=str(plan.folder), runtime=label(),
    )  # fmt: skip


def undeploy(model_id: str, cache: Path, folder: Path | None = None) -> str:
    """Take a version that Ingot deployed out of `cache`; says what was done. Others' models are left alone.

    `folder`: where it is, if not where Ingot puts a model of that id. Raises `IngotError` if the place or the
    registration belongs to somebody else, or the index cannot be read.
    """
    folder = folder or caches.home_of(cache, model_id)
    if not cache.is_dir():
        return "nothing there"
    present = folder.exists() or folder.is_symlink()
    if present and marks.owner(folder) is None:
        raise IngotError(folder, "was not put there by Ingot", "Remove it by hand if it should go")
    ids = planning.stale_ids(caches.registrations(cache), folder, model_id)
    if not ids and not (cache / marks.FOLDER).is_dir():
        return "nothing there"
    with writing(cache), locked(cache):
        if present:
            (folder / MARKER).unlink(missing_ok=True)
        if ids:
            with Runtime(cache) as runtime:
                _unregister(runtime, ids)
        if present:
            moving.move(folder, placing.beside(folder, "old"))
        placing.sweep(cache)
    return "removed" if present or ids else "nothing there"


def _unregister(runtime: Runtime, ids: tuple[str, ...]) -> None:
    known = runtime.registered()
    for model_id in ids:
        if model_id in known:
            runtime.unregister(model_id)

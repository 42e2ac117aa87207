"""Whether what is deployed is what was signed: `doit check --signed`.

What must be signed does not depend on what the folders say of themselves: it is whatever this configuration deployed,
by its own records, and whatever a runtime would list under a name or alias that it asks for, by place, registration or
marker. A version that was taken back has no `inference_model.json`, and is listed by no runtime: its manifest holds
that text.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from scripts.attest import signing
from scripts.attest.papers import SIGNATURE
from scripts.common.manifest import MANIFEST
from scripts.common.visible import line
from scripts.foundry import cache as caches
from scripts.foundry import chosen, discovery, marks, planning, signature
from scripts.foundry.cache import MARKER
from scripts.foundry.chosen import Chosen
from scripts.foundry.marks import FOLDER, Own
from scripts.foundry.standing import Asked
from scripts.results import base
from scripts.results.foundry import Deploy, Reconciled

_GONE = "is not there"


class _Model(NamedTuple):
    id: str
    folder: Path


def check(cache: Path, asked: Asked, public_key: Path) -> dict[str, list[str]]:
    """The models of this configuration in a cache, by id and folder → why each is not as it was signed.

    Raises `IngotError` where the public key is none, model-signing is not installed, or the runtime's index or a result
    of the build can't be read.
    """
    deployed, registered = list(_deployed(cache, asked)), set(_registered(cache, asked))
    own, ours = Path(os.path.realpath(cache / FOLDER)), planning.misplaced(cache)
    picked, told = chosen.of(asked.build, cache), {}
    for one in sorted(_found(cache, asked, deployed, registered)):
        last = next((result for result in deployed if _name(result.id) == _name(one.id)), None)
        problems = _problems(one, last, public_key, one.folder.parent == own)
        if problems == [_GONE] and one in registered and one.id not in ours:
            problems = [f"{_GONE}, but still registered, not by Ingot: have what registered it unregister it"]
        if last and (one in registered or _has_marker(one.folder)):
            problems += _newer(one, last, picked.get(_name(one.id)), asked)
        told[line(f"{one.id} ({one.folder})")] = problems
    return told


# --- what must be signed


def _found(cache: Path, asked: Asked, deployed: Sequence[Deploy], registered: Set[_Model]) -> set[_Model]:
    made = (_model(result.id, Path(result.path)) for result in deployed if result.path)
    made = (model for model in made if asked.asks(model.id) or os.path.lexists(model.folder))
    found = {*made, *registered, *_recorded(cache, asked), *_standing(cache, asked)}
    places = {model.folder for model in found}
    marked = (_model(name, folder) for folder, name in discovery.listed(cache) if asked.asks(name))
    return found | {model for model in marked if model.folder not in places}


def _model(model_id: str, folder: Path) -> _Model:
    """One of a place, by whichever path; a link as the last part of it stays one."""
    return _Model(model_id, Path(os.path.realpath(folder.parent)) / folder.name)


def _deployed(cache: Path, asked: Asked) -> Iterator[Deploy]:
    """What the build deployed into this cache, of each precision the last, though `doit rollback` took it back."""
    for path in sorted(asked.build.glob("*/*/deploy.json")):
        result = base.find(path, Deploy)
        if result and (result.path or result.taken_back) and marks.same(Path(result.cache), cache):
            yield result


def _recorded(cache: Path, asked: Asked) -> Iterator[_Model]:
    """What this configuration had in the cache when that was last held against what it asks for, and is there still."""
    result = base.find(asked.build / "foundry" / "reconcile.json", Reconciled)
    if result and marks.same(Path(result.cache), cache):
        for one in result.stands:
            if os.path.lexists(one.folder):
                yield _model(one.id, Path(one.folder))


def _standing(cache: Path, asked: Asked) -> Iterator[_Model]:
    """What stands where Ingot puts a model that is asked for, or would be if no settings had a mistake, and what says
    that this configuration deployed it.
    """
    parent, own_cache = cache / FOLDER, cache.is_relative_to(asked.build)
    broken = tuple(f"{model.casefold()}-" for model in asked.broken)
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if folder.name.startswith(".") or not (folder.is_dir() or folder.is_symlink()):
            continue
        model_id, mark = caches.id_of(folder), marks.mark_of(folder) or {}
        named = asked.asks(model_id) or model_id.casefold().startswith(broken)
        if named or Own(model_id, folder, mark).is_of(str(asked.config), own_cache):
            yield _model(model_id, folder)


def _registered(cache: Path, asked: Asked) -> Iterator[_Model]:
    for model_id, folder in caches.registrations(cache).items():
        if asked.asks(model_id):
            yield _model(model_id, folder)


# --- whether it is


def _name(model_id: str) -> str:
    return model_id.partition(":")[0].casefold()


def _version(model_id: str) -> float:
    """The number; what is none may be taken for any."""
    number = model_id.partition(":")[2]
    return int(number) if re.fullmatch("[0-9]{1,18}", number) else math.inf


def _newer(model: _Model, last: Deploy, picked: Chosen | None, asked: Asked) -> list[str]:
    """What is wrong with the number of a model that is listed: none stands above what this build put there, be it by
    deploying or because `doit rollback` was asked for it.
    """
    highest = max((last.id, picked.id if picked else last.id), key=_version)
    if _version(model.id) <= _version(last.id) or _version(model.id) < _version(highest):
        return []
    if picked and model.id == picked.id:
        same = picked.signature == chosen.signature(model.folder)
        return [] if same else ["is signed, but is another package than the one that doit rollback chose"]
    found = f"is newer than {highest}, which was deployed last: by alias, a client gets the newest"
    by = (marks.mark_of(model.folder) or {}).get("config")
    if by and not marks.same(Path(str(by)), asked.config):
        found += f". It says that the configuration {by} deployed it: {marks.APART}"
    return [found]


def _problems(model: _Model, last: Deploy | None, public_key: Path, by_ingot: bool) -> list[str]:
    if model.folder.is_symlink():
        return ["is a link"]
    if not model.folder.is_dir():
        return [_GONE]
    mark = marks.mark_of(model.folder) or {}
    unmarked = [f"{MANIFEST} is missing, or does not say that {model.id} was deployed there"]
    found = unmarked if by_ingot and mark.get("id") != model.id else []
    try:
        signed = signing.read(model.folder / SIGNATURE, public_key)
    except signing.NotSignedError as error:
        return [*found, str(error)]
    found += signature.problems(model.folder, model.id, signed, _kept_marker(model.folder, mark))
    content = last.signed_content if last and last.id == model.id else None
    if not found and content not in (None, signed.content):
        found.append("is signed, but is another package of this name than the one that was deployed")
    return found


def _kept_marker(folder: Path, mark: Mapping[str, object]) -> bytes | None:
    """The content of the marker of a version that was taken back."""
    kept = mark.get("marker")
    if _has_marker(folder) or "taken_back" not in mark or not isinstance(kept, str):
        return None
    return kept.encode()


def _has_marker(folder: Path) -> bool:
    return os.path.lexists(folder / MARKER)

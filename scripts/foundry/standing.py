"""What stands in a Foundry cache against what should: the settings, the verdicts, and what a refusal means.

A model is known by the manifest that Ingot left in its folder, which names the configuration that deployed it: models
of other configurations, other builds and other people are never judged. One that a gate refuses now stays as the last
good version of it; one that nothing asks for any more (dropped from models.toml, or kept out by `deploy`) is an orphan.
Where settings are broken, or a step did not come so far, nothing is known, and what stands is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from scripts.common.errors import IngotError
from scripts.common.model_id import alias_of
from scripts.foundry import deploy, figures, marks, versions
from scripts.foundry.marks import Own
from scripts.results import base
from scripts.results.base import Marker
from scripts.results.foundry import Deploy, Reconciled, Standing, Stands


@dataclass(frozen=True)
class Asked:
    """What a configuration asks for: the precisions of its models by the name of the deployed model; `broken` are the
    models whose settings have mistakes, of which nothing is known.
    """

    config: Path
    build: Path
    names: Mapping[str, Sequence[str]]
    broken: Sequence[str] = ()

    @classmethod
    def of(cls, config: Path, build: Path, given: Any) -> Asked:
        """From what `dodo.py` says. Raises `IngotError` on another form."""
        if not isinstance(given, dict) or not isinstance(given.get("names"), dict):
            raise IngotError("--asked", f"expected names and broken, found {given!r}", "See --help")
        return cls(config.absolute(), build.absolute(), given["names"], given.get("broken") or ())

    @property
    def aliases(self) -> frozenset[str]:
        """By which clients ask for its models."""
        return frozenset(map(alias_of, self.names))

    def asks(self, model_id: str) -> bool:
        """Whether a client that asks for one of its models, by name or alias, may be answered by this one."""
        return alias_of(model_id) in self.aliases


def judge(cache: Path, asked: Asked) -> list[Stands]:
    """What this configuration has in the cache, each with what is to become of it."""
    own_cache = cache.is_relative_to(asked.build)
    return [_told(own, _judged(own, asked)) for own in marks.ours(cache) if own.is_of(str(asked.config), own_cache)]


def _told(own: Own, found: Stands) -> Stands:
    """What the notes beside a deployed model say of it."""
    verified = marks.verified(own.folder)
    return msgspec.structs.replace(
        found, listed=not own.taken_back, verified_at=str(verified["at"]) if verified and "at" in verified else None,
        figures=figures.kept(own.folder),
    )  # fmt: skip


def _judged(own: Own, asked: Asked) -> Stands:
    known = {name.casefold(): of for name, of in asked.names.items()}
    model, precision = known.get(own.name.casefold()) or (None, None)
    found = Stands(id=own.id, folder=str(own.folder), standing="deployed", model=model, precision=precision)
    if model is None or precision is None:
        if any(own.name.casefold().startswith(f"{name.casefold()}-") for name in asked.broken):
            return _as(found, "kept", "the settings of its model have a mistake")
        return _as(found, "orphan", f"nothing in {asked.config / 'models.toml'} asks for it")
    place = asked.build / model / precision
    if stopped := base.find(base.marker_of(place / "deploy.json"), Marker):
        return _as(found, "kept", f"{precision} was not judged this time: {'; '.join(stopped.reasons)}")
    result = base.find(place / "deploy.json", Deploy)
    if result is None:
        return _as(found, "kept", f"{precision} was not judged yet")
    if result.verdict == "passed" or result.action == "rolled back":
        return (
            found if own.id == result.id and not own.taken_back else msgspec.structs.replace(found, standing="version")
        )
    told = "; ".join(result.reasons)
    if result.verdict == "refused":
        return _as(found, "kept", f"{precision} is refused now: {told}")
    return _as(found, "orphan", told)


def _as(found: Stands, standing: Standing, why: str) -> Stands:
    how = "of an earlier build stays in the cache and is served" if standing == "kept" else "is still served"
    return msgspec.structs.replace(found, standing=standing, told=f"{found.id} {how}: {why}")


def reconcile(cache: Path, asked: Asked, policy: str, remedy: str, keep: int = 1) -> Reconciled:
    """List what stands; with the policy "remove", first take down what was refused and what nothing asks for.

    Of earlier versions of what is deployed and verified, `keep` stay. `remedy`: the command that takes orphans down.

    Raises `IngotError` where the cache can't be written.
    """
    removed, told = list[str](), list[str]()
    try:
        versions.mend(cache, asked.aliases | {alias_of(one.id) for one in judge(cache, asked)})
    except IngotError as error:  # as below
        told.append(str(error))
    if policy == "remove":
        for one in judge(cache, asked):
            if one.standing == "orphan" or (one.standing == "kept" and _is_refused(one, asked)):
                deploy.undeploy(one.id, cache, Path(one.folder))
                print(f"reconcile: taken down: {one.told}", flush=True)
                removed.append(one.id)
    for name in sorted({one.id.rpartition(":")[0] for one in judge(cache, asked) if one.standing == "deployed"}):
        try:
            gone = prune(cache, name, keep, asked)
            removed += gone
            print(
                *(f"reconcile: taken down: {model_id}, an earlier version" for model_id in gone), sep="\n", flush=True
            )
        except IngotError as error:  # it is in use: the next build tries again
            told.append(str(error))
    for one in judge(cache, asked):
        if one.standing == "deployed":
            with contextlib.suppress(OSError):  # a cache that is read-only: the present report tells it all the same
                figures.keep(Path(one.folder), asked.build / str(one.model) / str(one.precision))
    stands = judge(cache, asked)
    told += [
        f"{one.told}; {remedy} takes it down" if one.standing == "orphan" else one.told for one in stands if one.told
    ]
    return Reconciled(
        verdict="warned" if told else "passed", reasons=told, cache=str(cache), config=str(asked.config),
        own_cache=cache.is_relative_to(asked.build), stands=stands, removed=removed,
    )  # fmt: skip


def _is_refused(one: Stands, asked: Asked) -> bool:
    place = asked.build / str(one.model) / str(one.precision)
    if one.model is None or base.marker_of(place / "deploy.json").exists():
        return False
    result = base.find(place / "deploy.json", Deploy)
    return result is not None and result.verdict == "refused"


def prune(cache: Path, name: str, keep: int, asked: Asked) -> list[str]:
    """Once the newest listed version is verified: remove all before it but the newest `keep`; their ids.

    What another configuration deployed under this name is not counted, and stays. Raises `IngotError` where one can't
    be removed, being in use.
    """
    own_cache = cache.is_relative_to(asked.build)
    known = [own for own in marks.versions(cache, name) if own.is_of(str(asked.config), own_cache)]
    newest = next((own for own in known if not own.taken_back), None)
    if newest is None or marks.verified(newest.folder) is None:
        return []
    older = [own for own in known if own.version < newest.version]
    gone = sorted(older, key=lambda own: own.taken_back is not None)[keep:]  # what was taken back goes first
    for own in gone:
        deploy.undeploy(own.id, cache, own.folder)
    return [own.id for own in gone]


def take_down_orphans(cache: Path, asked: Asked) -> list[str]:
    """Take down what nothing asks for; the ids."""
    gone = [one for one in judge(cache, asked) if one.standing == "orphan"]
    for one in gone:
        deploy.undeploy(one.id, cache, Path(one.folder))
    return [one.id for one in gone]

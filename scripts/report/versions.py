"""The versions of a deployed model that stand in the cache: what each was measured to be, what changed between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from scripts.report import changes, commands
from scripts.report.words import figure, label
from scripts.results import base
from scripts.results.foundry import Stands
from scripts.results.report import Model, Version


def beside(model: Model, stands: Sequence[Stands]) -> Model:
    """Each precision with its versions, the newest first; each told from the one before by the rules of `changes`."""
    rows = [replace(row, versions=_versions(model.name, row.precision, stands)) for row in model.precisions]
    return replace(model, precisions=rows)


def _versions(model: str, precision: str, stands: Sequence[Stands]) -> list[Version]:
    mine = [one for one in stands if (one.model, one.precision) == (model, precision)]
    ordered = sorted(mine, key=lambda one: int(one.id.rpartition(":")[2]))
    found: list[Version] = []
    for one in ordered:
        before = found[-1].measured if found else None
        both = (base.plain(before), base.plain(one.figures)) if before and one.figures else None
        entries = changes.between(model, precision, *both) if both else None
        found.append(Version(id=one.id, listed=one.listed, verified_at=one.verified_at, measured=one.figures,
                             changes=entries))  # fmt: skip
    return found[::-1]


def lines(model: dict[str, Any], called: dict[str, Any]) -> list[str]:
    """Of each precision that has more than one: which of them is served, and what the newest changed."""
    found = []
    for row in model["precisions"]:
        newest, *older = row["versions"] or [None]
        if not older:
            continue
        told = ", ".join(f"{one['id']} {how(one)}" for one in (newest, *older))
        back = commands.doit(called, "rollback", f"{model['name']}-{row['precision']}")
        found.append(f"{row['precision']}: versions: {told}; {back} goes one back")
        found.append(f"{row['precision']}: from {older[0]['id']} to {newest['id']}: {difference(newest)}")
    return found


def how(version: dict[str, Any]) -> str:
    """What a version is, in a word or two."""
    verified = f"verified {version['verified_at'][:10]}" if version["verified_at"] else "not verified"
    return f"({'served' if version['listed'] else 'taken back'}, {verified})"


def difference(version: dict[str, Any]) -> str:
    """What a version changed, in one line."""
    if version["changes"] is None:
        return "one of them was not measured"
    told = [f"{entry['kind']}: {label(entry['metric'])} {figure(entry['metric'], entry['before'])} → "
            f"{figure(entry['metric'], entry['after'])}" for entry in version["changes"]]  # fmt: skip
    return "; ".join(told) or "nothing changed beyond noise"

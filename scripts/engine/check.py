"""`doit check`: whether everything that was published, and deployed, still is what its manifest says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from scripts.common.errors import IngotError
from scripts.engine import status
from scripts.engine.digests import Digests
from scripts.engine.session import Engine
from scripts.engine.step import Step


@dataclass
class Report:
    """Step → how its output differs from what was published; the steps that are whole; those never built."""

    damage: dict[str, list[str]] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    not_built: list[str] = field(default_factory=list)
    hashed_bytes: int = 0


def check(engines: Iterable[Engine], steps: Iterable[Step], *, deep: bool) -> Report:
    """Verify every output, by stamps where those are known, or with `deep` by reading every byte."""
    report = Report()
    kept = [(engine, engine.digests) for engine in engines]
    for engine, _ in kept:
        engine.digests = Digests(engine.state, forgetful=deep)
    try:
        for step in steps:
            damage = _damage(step, deep)
            if damage is None:
                report.not_built.append(step.name)
            elif damage:
                report.damage[step.name] = damage
            else:
                report.whole.append(step.name)
    finally:
        for engine, digests in kept:
            report.hashed_bytes += engine.digests.hashed_bytes
            engine.digests = digests
    return report


def _damage(step: Step, deep: bool) -> list[str] | None:
    found = status.read(step)
    if found is None:
        if os.path.lexists(step.output):
            return ["has no manifest or provenance that can be read"]
        return ["is missing"] if step.engine.receipt(step.name) else None
    damage = list(found.damage)
    if step.world and not damage and (deep or not _as_noted(step)):
        try:
            result = json.loads(step.output.read_text(encoding="utf-8"))
            gone = step.world.holds(result, step.engine.digests.of)
        except (OSError, ValueError, KeyError, TypeError, IngotError) as error:
            gone = str(error)
        damage += [gone] if gone else []
    return damage


def _as_noted(step: Step) -> bool:
    receipt = step.engine.receipt(step.name)
    return receipt is not None and status.as_noted(step, receipt[2])


def as_text(report: Report) -> str:
    """A line for each difference, then the count."""
    lines = [f"✗ {name}: {line}" for name, damage in report.damage.items() for line in damage]
    counts = [(len(report.whole), "whole"), (len(report.damage), "damaged"), (len(report.not_built), "not built")]
    lines.append(", ".join(f"{count} {what}" for count, what in counts if count) or "nothing is declared")
    lines[-1] += "; doit makes that right" if report.damage else ""
    return "\n".join(lines)

"""`doit check`: whether everything that was published, and deployed, still is what its manifest says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from scripts.engine import outputs, removed
from scripts.engine.digests import Digests
from scripts.engine.session import Session
from scripts.engine.step import Step


@dataclass
class Report:
    """Step → how its output differs from what was published; the steps that are whole; those never built; what is
    worth telling of the outside.
    """

    damage: dict[str, list[str]] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    not_built: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    hashed_bytes: int = 0


def check(session: Session, steps: Iterable[Step], *, deep: bool) -> Report:
    """Verify every output, by stamps where those are known, or with `deep` by reading every byte."""
    report = Report()
    digests = Digests(session.state, forgetful=deep)
    for step in steps:
        damage = _damage(session, step, digests, deep)
        if damage is None:
            report.not_built.append(step.name)
        elif damage:
            report.damage[step.name] = damage
        else:
            report.whole.append(step.name)
            report.remarks[step.name] = [*outputs.remarks(step), *removed.told(step)]
    report.hashed_bytes = digests.hashed_bytes
    return report


def _damage(session: Session, step: Step, digests: Digests, deep: bool) -> list[str] | None:
    found, receipt = outputs.read(step, digests), session.records.receipt(step.name)
    if found is None:
        if os.path.lexists(step.output):
            return ["has no manifest or provenance that can be read"]
        return ["is missing"] if receipt else None
    damage = list(found.damage)
    untouched = not deep and receipt is not None and outputs.is_untouched(step, receipt.stamps)
    if step.external_state and not damage and not untouched:
        _, gone = outputs.external_state(step, digests)
        damage += [gone] if gone else []
    return damage


def as_text(report: Report) -> str:
    """A line for each difference, then the count."""
    lines = [f"✗ {name}: {line}" for name, damage in report.damage.items() for line in damage]
    lines += [f"! {name}: {line}" for name, remarks in report.remarks.items() for line in remarks]
    counts = [(len(report.whole), "whole"), (len(report.damage), "damaged"), (len(report.not_built), "not built")]
    lines.append(", ".join(f"{count} {what}" for count, what in counts if count) or "nothing is declared")
    lines[-1] += "; doit makes that right" if report.damage else ""
    return "\n".join(lines)

"""`doit why`: what would run, in which order, for which typed reasons, at what cost. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.engine import outputs, removed
from scripts.engine.keys import input_names
from scripts.engine.reasons import Reason
from scripts.engine.session import Session
from scripts.engine.step import Step, in_order


@dataclass(frozen=True)
class Due:
    """A step that would run: its own reasons; the stale steps that it follows, unless those come out the same."""

    task: str
    reasons: tuple[Reason, ...]
    follows: tuple[str, ...]
    restorable: bool
    seconds: float | None
    peak_rss_bytes: int | None


@dataclass
class Plan:
    """What a run would do."""

    would_run: list[Due] = field(default_factory=list)
    up_to_date: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    @property
    def never_ran(self) -> int:
        """How many of them have no cost yet."""
        return sum(due.seconds is None and not due.restorable for due in self.would_run)

    @property
    def seconds(self) -> float:
        """Wall seconds by the last runs, one after the other; what never ran, or would be restored, counts nothing."""
        return sum(due.seconds or 0.0 for due in self.would_run if not due.restorable)


def plan(session: Session, wanted: Iterable[Step]) -> Plan:
    """What a run for these steps would do."""
    made, stale = Plan(), set[Step]()
    for step in in_order(wanted):
        status = session.status.of(step)
        follows = [upstream for upstream in step.upstream if upstream in stale]
        labels = input_names(step)
        names = {labels[read.name] for read in step.read if read.item in stale}
        # A stale input's own change is its reason; here it is a consequence.
        reasons = tuple(r for r in status.reasons if not (r.kind == "input changed" and r.what in names))
        if reasons or follows:
            stale.add(step)
            due = _due(session, step, reasons, tuple(upstream.name for upstream in follows))
            if not due.restorable:
                made.would_run += _made_whole(session, step, made.would_run)
            made.would_run.append(due)
        elif status.outcome.startswith("skipped:"):
            made.skipped.append(step.name)
        else:
            made.up_to_date.append(step.name)
            if told := outputs.remarks(step):
                made.remarks[step.name] = told
    return made


def _made_whole(session: Session, step: Step, due: Iterable[Due]) -> list[Due]:
    """What would be built again because this step reads it and files of it were removed, each after what it reads."""
    found: dict[str, Due] = {}
    for needed in removed.needed(step):
        if needed.name not in {one.task for one in due}:
            found |= {one.task: one for one in _made_whole(session, needed, due)}
            names = ", ".join(removed.absent(needed))
            found[needed.name] = _due(
                session, needed, (Reason("removed to save disk", f"{names}; {step.name} needs it"),), ()
            )
    return list(found.values())


def _due(session: Session, step: Step, reasons: tuple[Reason, ...], follows: tuple[str, ...]) -> Due:
    seconds, peak_rss = session.records.cost(step.name) or (None, None)
    try:
        restorable = not follows and step.storable and session.store.has(session.status.keys.key(step))
    except (IngotError, OSError):  # an input is not there: that is the reason already
        restorable = False
    return Due(step.name, reasons, follows, restorable, seconds, peak_rss)


def as_json(made: Plan) -> str:
    """{"would_run": [{"task", "reasons": [{"kind", "what", "old", "new"}], "follows", "restorable", "seconds",
    "peak_rss_bytes"}], "up_to_date": [], "skipped": [], "remarks": {task: []}, "seconds"}
    """
    value: dict[str, Any] = {**asdict(made), "seconds": round(made.seconds, 3)}
    return json_files.dumps(value)


def as_text(made: Plan) -> str:
    """For people: a line for each reason."""
    lines = []
    for due in made.would_run:
        said = [str(reason) for reason in due.reasons]
        if due.follows:
            comes = "it comes" if len(due.follows) == 1 else "they come"
            said.append(f"follows {_names(list(due.follows))}, unless {comes} out the same")
        lines += [f"{due.task}  ({_cost(due)})", *(f"    {line}" for line in said)]
    count = len(made.would_run)
    if not count:
        lines.append("nothing would run")
    else:
        lines.append(f"\n{count} would run{_total(made)}")
    if made.up_to_date:
        lines.append(f"up to date: {_names(made.up_to_date)}")
    if made.skipped:
        lines.append(f"skipped, as what they need stopped: {_names(made.skipped)}")
    lines += [f"! {name}: {line}" for name, remarks in made.remarks.items() for line in remarks]
    return "\n".join(lines)


def _cost(due: Due) -> str:
    if due.restorable:
        return "restored from the store"
    if due.seconds is None:
        return "never ran here"
    return f"{_seconds(due.seconds)}, {(due.peak_rss_bytes or 0) / 2**20:.0f} MiB the last time"


def _total(made: Plan) -> str:
    most = max((due.peak_rss_bytes or 0 for due in made.would_run if not due.restorable), default=0)
    memory = f", {most / 2**20:.0f} MiB at most" if most else ""
    known = f": {_seconds(made.seconds)} by their last runs{memory}" if made.never_ran < len(made.would_run) else ""
    return known + (f"; {made.never_ran} never ran here" if made.never_ran else "")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"

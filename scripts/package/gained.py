"""What a model card says of fine-tuning: the float export on the model's own cases, beside the model without it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from scripts.quality.gain import gained
from scripts.results import base
from scripts.results.base import Interval
from scripts.results.domain import Domain, Unadapted

T = TypeVar("T", Domain, Unadapted)


def told(tuned: Path | None, untuned: Path | None) -> str:
    """A paragraph; nothing where either result is not there, or the two are of different cases."""
    after, before = _read(tuned, Domain), _read(untuned, Unadapted)
    gain = gained(before, after) if before and after else None
    if not (before and after and gain):
        return ""
    template = "its own chat template" if before.own_template else "the same chat template, having none of its own"
    right, untold = _share(after), _share(before)
    return (
        f"Of {after.asked} of its {after.cases_total} cases, the float model gets {right} right, and the model without "
        f"its fine-tuning, asked in {template}, {untold}: {gain.points:+g} points{_between(gain.points_interval)}. In "
        "brackets stand intervals of 95 %. What each precision keeps of that is told by the report of the build."
    )


def _read(path: Path | None, kind: type[T]) -> T | None:
    """A result; None where there is none, or its step stopped and left a marker instead."""
    if path is None or base.marker_of(path).is_file():
        return None
    return base.find(path, kind)


def _share(result: Domain) -> str:
    return f"{result.score:g} %{_between(result.score_interval)}"


def _between(interval: Interval | None) -> str:
    return f" ({interval[0]:.0f} to {interval[1]:.0f})" if interval else ""

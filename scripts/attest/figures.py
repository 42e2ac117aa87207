"""What was measured of a package, as far as it is the same whenever it is computed: for the card and the bill.

Speed and memory are a machine's, and stand in the report alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from scripts.results import base, measured
from scripts.results.domain import Domain
from scripts.results.quality import Quality

T = TypeVar("T", Quality, Domain)


@dataclass(frozen=True)
class Figure:
    """A value of `metric` (a name for programs) on a data set; `told` is how people read both."""

    metric: str
    name: str
    value: float
    told: str
    data: str
    interval: tuple[float, float] | None = None


def measured_of(package: Path, quality: Path | None, domain: Path | None) -> list[Figure]:
    """The figures in quality.json and domain.json; none of a step that stopped, or that is about another package."""
    found = list[Figure]()
    if compared := _result(quality, Quality):
        found += _of_quality(compared)
    asked = _result(domain, Domain)
    if asked and asked.package in (None, measured.digest(package)):
        found += _of_domain(asked)
    return found


def _result(path: Path | None, kind: type[T]) -> T | None:
    """A result; None where there is none, or its step stopped and left a marker instead."""
    if path is None or base.marker_of(path).is_file():
        return None
    return base.find(path, kind)


def _of_quality(found: Quality) -> Iterator[Figure]:
    if found.verdict == "skipped":
        return
    data = f"evaluation texts, against the {'checkpoint' if found.against == 'checkpoint' else 'float export'}"
    for metric, name, value, form, within in (
        ("kl_divergence", "KL divergence, nats", found.kl, "{:.2g} nats", found.kl_interval),
        ("top1_agreement", "top-1 agreement", found.top1, "{:.1%}", found.top1_interval),
        ("perplexity_ratio", "perplexity ratio", found.perplexity_ratio, "{:.3f}", found.perplexity_ratio_interval),
    ):
        if value is not None:
            interval = (within[0], within[1]) if within else None
            yield Figure(metric, name, value, form.format(value), data, interval)


def _of_domain(found: Domain) -> Iterator[Figure]:
    if found.verdict == "skipped" or not found.asked:
        return
    within = found.score_interval
    told = f"{found.score:.1f} % ({found.passed} of {found.asked})"
    yield Figure("accuracy", "cases right, %", found.score, told, "the model's own cases",
                 (within[0], within[1]) if within else None)  # fmt: skip
    if found.schema_valid is not None:
        value = found.schema_valid
        yield Figure("schema_valid", "answers valid by the schema, %", value, f"{value:.1f} %", "the model's own cases")


def in_bill(figures: list[Figure]) -> list[dict[str, object]]:
    """As CycloneDX's performanceMetrics."""
    rows: list[dict[str, object]] = []
    for one in figures:
        row: dict[str, object] = {"type": one.name, "value": repr(one.value), "slice": one.data}
        if one.interval:
            row["confidenceInterval"] = {
                "lowerBound": repr(one.interval[0]),
                "upperBound": repr(one.interval[1]),
            }
        rows.append(row)
    return rows

"""Several models on one page: which is for which job, in which precision, how good it is at it, and what it takes."""

from __future__ import annotations

from typing import Any

from scripts.report.words import NONE, figure
from scripts.results.report import METRICS

#: Heading, section of the chosen precision that the figure stands in, metric.
FIGURES = (
    ("size", "", "size_bytes"), ("bits/weight", "", "bits_per_weight"), ("decode", "performance", "tg128"),
    ("peak RSS", "performance", "peak_rss_bytes"), ("KL", "quality", "kl"),
)  # fmt: skip
#: Of those columns: which go first where there is no room, and which hold numbers.
RANKS = (0, 0, 3, 4, 5, 0, 6, 10, 7, 8, 9, 11)
NUMBERS = (False, False, False, *[True] * 8, False)
HEAD = ("model", "use", "verdict", "base", "float", "cases right", *(head for head, _, _ in FIGURES), "job")


def chosen(model: dict[str, Any]) -> dict[str, Any] | None:
    """The precision to use: the recommended one, else the first that is deployed; None where there is neither."""
    rows = model["precisions"]
    best = [row for row in rows if row["precision"] == model["recommended"]] or [row for row in rows if row["deployed"]]
    return best[0] if best else None


def rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row a model, a cell for each of `HEAD`; nothing where there is but one model."""
    return [_row(model) for model in report["models"]] if len(report["models"]) > 1 else []


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    row = chosen(model) or {}
    base = (model["base"] or {}).get("domain")
    scores = (base, model["export"]["domain"], row.get("domain"))
    figures = [((row.get(section) or {}) if section else row).get(metric) for _, section, metric in FIGURES]
    told = [NONE if value is None else figure(metric, value)
            for value, (_, _, metric) in zip(figures, FIGURES, strict=True)]  # fmt: skip
    job = (model["settings"] or {}).get("description") or NONE
    return (
        model["name"], row.get("precision", NONE), row.get("verdict", NONE),
        *(figure("score", domain["score"]) if domain else NONE for domain in scores), *told, job,
    )  # fmt: skip


def legend() -> str:
    """What the columns of scores are."""
    of = METRICS["score"].label
    return f"base, float, {of}: of each model's own cases; without the fine-tuning, as the float export, as is used"

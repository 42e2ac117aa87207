"""The model's own job in words: how many cases were asked and got right, what fine-tuning gained, what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.report.words import figure

NOTHING_GAINED = "what was gained is within noise, so that no share of it can be told; more cases may tell"


def cases(model: dict[str, Any]) -> list[str]:
    """How many of the cases were asked, and how sure scores and differences are; nothing where no cases were asked."""
    named = [("float", model["export"]["domain"]), *((row["precision"], row["domain"]) for row in model["precisions"])]
    asked = [(name, domain) for name, domain in named if domain and domain["asked"]]
    if not asked:
        return []
    scores = [f"{name} {figure('score', domain['score'])}{between(domain['score_interval'])}" for name, domain in asked]
    first = asked[0][1]
    which = f"all {first['asked']}" if first["asked"] == first["cases_total"] else (
        f"{first['asked']} asked, of {first['cases_total']}")  # fmt: skip
    lines = [f"cases: {which}; right, with the interval of 95 %: {', '.join(scores)}"]
    beside = [(name, domain["score"], domain["baseline"]) for name, domain in asked if domain["baseline"]]
    points = [f"{name} {score - of['score']:+.1f}{between(of['difference_interval'])}" for name, score, of in beside]
    measure = beside[0][2].get("precision", "float") if beside else ""
    told = f"points beside {measure}'s: {', '.join(points)}"
    if measure != "float":
        told += "; the float export is too large to be served here"
    return [*lines, *([told] if points else [])]


def between(interval: Sequence[float] | None) -> str:
    """An interval in brackets; nothing where there is none."""
    return f" ({interval[0]:.0f} to {interval[1]:.0f})" if interval else ""


def fine_tuning(model: dict[str, Any]) -> list[str]:
    """What fine-tuning gained, and what each precision keeps of that; nothing where there is no base."""
    base, gain = model["base"], model["export"]["gain"]
    if not base:
        return []
    if not base["domain"] or not gain:
        why = "; ".join(base["reasons"]) or "the two were not asked the same"
        return [f"fine-tuning: what it gained is not known: {why}"]
    before, after = (figure("score", domain["score"]) for domain in (base["domain"], model["export"]["domain"]))
    points = f"{figure('points', gain['points'])} points{between(gain['points_interval'])}"
    lines = [f"fine-tuning: from {before} to {after} of the cases, {points}; {asked_in(base['domain'])}"]
    kept = [(row["precision"], row["gain"]) for row in model["precisions"] if row["gain"]]
    told = [f"{name} {figure('kept', part['kept'])}{between(part['kept_interval'])}"
            for name, part in kept if part["kept"] is not None]  # fmt: skip
    if kept and not told:
        return [*lines, f"fine-tuning: {NOTHING_GAINED}"]
    return [*lines, *([f"kept of that: {', '.join(told)}"] if told else [])]


def asked_in(base: dict[str, Any]) -> str:
    """In which chat template the model without its fine-tuning was asked."""
    if base["own_template"]:
        return "the base was asked in its own chat template"
    return "the base has no chat template and was asked in the fine-tuned model's"

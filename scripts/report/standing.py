"""What is in the Foundry cache although the build did not deploy it: in the report, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from scripts.report import commands
from scripts.results.foundry import Reconciled, Stands
from scripts.results.report import Cache, Model


def lines(stands: Sequence[dict[str, Any]], called: dict[str, Any]) -> list[str]:
    """A line for each model, with what takes down one that nothing asks for."""
    remedy = f"; {commands.doit(called, 'undeploy', '--orphans')} takes it down"
    return [one["told"] + (remedy if one["standing"] == "orphan" else "") for one in stands]


def others(report: dict[str, Any]) -> list[str]:
    """Of models and precisions that are not in the report: what stands, and what was taken down."""
    cache = report["cache"]
    if not cache:
        return []
    removed = [f"{model_id} was taken down" for model_id in cache["removed"]]
    return [*lines(cache["others"], report["called"]), *removed]


def beside(model: Model, stands: Sequence[Stands]) -> Model:
    """What stands in the cache beside the precision that it is of, where that is not what the build deployed."""
    rows = [
        replace(
            row,
            stands=[one for one in stands if one.told and (one.model, one.precision) == (model.name, row.precision)],
        )
        for row in model.precisions
    ]
    return replace(model, precisions=rows)


def cache_of(found: Reconciled, models: Sequence[Model]) -> Cache:
    """What this configuration has in the cache and no precision of the report stands for."""
    told = {one.id for model in models for row in model.precisions for one in row.stands}
    others = [one for one in found.stands if one.told and one.id not in told]
    return Cache(folder=found.cache, others=others, removed=found.removed)

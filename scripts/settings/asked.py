"""What a model was asked to be, for the report: every setting that matters, and no path."""

from __future__ import annotations

from typing import Any

from scripts.settings.models import Model


def asked(model: Model) -> dict[str, Any]:
    """The settings of a model as plain data; local folders are told as such, since a place says nothing."""
    source = model.source
    return {
        "description": model.description,
        "version": model.version,
        "license": model.license,
        "source": dict(source.flags) or {source.kind: "local"},
        **({"base": dict(model.base.source.flags) or {model.base.source.kind: "local"}} if model.base else {}),
        "adapters": [{"weight": adapter.weight} for adapter in model.adapters],
        "deploy": model.deploy,
        "exporter": model.exporter,
        "context_length": model.context_length,
        "sampling": dict(model.sampling),
        "gates": {"export": dict(model.export_gates), **{recipe.name: dict(recipe.gates) for recipe in model.recipes}},
        "recipes": {recipe.name: {"target": recipe.target, **recipe.steps} for recipe in model.recipes},
    }

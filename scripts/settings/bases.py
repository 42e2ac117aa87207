"""What a model was fine-tuned from, as a model of its own: what fine-tuning gained is told by comparing the two."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from scripts.common.errors import IngotError
from scripts.settings.models import BASE, Model, Source


def base_of(model: Model, named: Source | None, subject: str) -> Model | None:
    """The model without its fine-tuning: `named`, else its source without adapters.

    None where nothing can be compared: without cases, or where nothing says what it was fine-tuned from. Raises
    `IngotError`, about `subject`, where `named` is the model itself.
    """
    if named is not None and named == model.source and not model.adapters:
        remedy = "Name what it was fine-tuned from, or leave the key out"
        raise IngotError(subject, "is the source itself, to which no adapter is added", remedy)
    source = named or (model.source if model.adapters else None)
    if source is None or model.cases is None:
        return None
    return dataclasses.replace(
        model, name=f"{model.name}-{BASE}", place=f"{model.place}/{BASE}", source=source, adapters=(), recipes=(),
        template=None, text=None, cases=None, schema=None,
    )  # fmt: skip


def share_bases(models: Iterable[Model]) -> tuple[Model, ...]:
    """The models, those with the same base sharing one, which is built in the folder of the first."""
    known: list[Model] = []
    found = []
    for model in models:
        base = model.base
        if base is not None:
            base = next((other for other in known if other.source == base.source), base)
            known.append(base)
        found.append(dataclasses.replace(model, base=base))
    return tuple(found)

"""The model without its fine-tuning, on the cases of the fine-tuned one: what `gain` compares that with."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import asdict

from scripts.checkpoint import templates
from scripts.quality.domain import Asked
from scripts.results.domain import Unadapted


def run(package: Path, checkpoint: Path, cases: Path, schema: Path | None, limit: int) -> Unadapted:
    """Ask the package of a model without its fine-tuning; returns the content of baseline.json, which gates nothing.

    Raises `IngotError` on bad input, on a package that the runtime does not load, and where no case was answered.
    """
    result = Asked.read(cases, schema, limit).put_to(package, None)
    return Unadapted(**asdict(result), own_template=templates.own(checkpoint) is not None)

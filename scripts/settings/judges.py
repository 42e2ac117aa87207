"""Who judges the files that a model is asked, calibrated and compared by: before anything is built, not hours later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.settings.models import Model

#: By the flag that passes the file: "module:function", see `Step.preflight`.
CASES = {"cases": "scripts.cases.cases:load", "schema": "scripts.cases.cases:load_schema"}


def judged_by(model: Model, general: Path) -> dict[str, Any]:
    """Files by the "module:function" that judges them, see `Step.guards`; `general` is the text for every model."""
    cases = CASES["cases"] if model.schema else f"{CASES['cases']}_without_schema"
    return {
        cases: model.cases,
        CASES["schema"]: model.schema,
        "scripts.common.user_files:check_text": (general, model.text),
        "scripts.convert.texts:check": model.calibration if model.calibrates else None,
    }

"""Which precision to deploy: the first, in the user's order, that passed everything it was judged by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.quality.gates import VERDICTS, because, worst

GOOD = ("passed", "warned")
#: Folder beside a result for the notes of the build on it.
MARKERS = ".ingot"
NOT_MEASURED = {"verdict": "skipped", "reasons": ["not measured"]}


def recommend(order: list[str], verdicts: Mapping[str, list[dict[str, Any]]], export: dict[str, Any]) -> dict[str, Any]:
    """Choose among `order` (best liked first).

    `verdicts`: for each precision its quality result, domain result, …, of which "verdict" and "reasons" are read; a
    precision with none was not measured, and cannot be chosen. `export`: the quality result of the float export; when
    it is refused, the model was converted wrongly, and every precision is refused with it.
    """
    precisions = {}
    for name in order:
        results = verdicts.get(name) or [NOT_MEASURED]
        verdict = worst(result["verdict"] for result in results)
        reasons = because(results, verdict)
        if export["verdict"] not in GOOD:
            # A broken measurement of the export proves nothing against the precision: it is skipped, not refused.
            verdict = worst([verdict, "refused" if export["verdict"] == "refused" else "skipped"])
            reasons = [f"export: {reason}" for reason in export["reasons"] or [export["verdict"]]] + reasons
        precisions[name] = {"verdict": verdict, "reasons": reasons}
    chosen = next((name for name in order if precisions[name]["verdict"] in GOOD), None)
    return {"recommended": chosen, "reasons": _why(order, precisions, chosen), "precisions": precisions}


def from_files(export_quality: Path, quality: list[str], domain: list[str], precisions: Any) -> dict[str, Any]:
    """`recommend` over result files, each `PRECISION=FILE`, or a file in a folder named after its precision.

    In place of a result there may be the marker of the step that should have made it.
    """
    if not isinstance(precisions, list) or not precisions or not all(isinstance(name, str) for name in precisions):
        raise IngotError("--precisions", f"expected a JSON list of names, found {precisions!r}")
    verdicts: dict[str, list[dict[str, Any]]] = {}
    for value in [*quality, *domain]:
        name, mark, rest = value.partition("=")
        path = Path(rest) if mark and name in precisions else Path(value)
        if not (mark and name in precisions):
            # The marker of a step that stopped stands one folder deeper than its result.
            name = (path.parent.parent if path.parent.name == MARKERS else path.parent).name
        if name not in precisions:
            raise IngotError(path, f"belongs to no precision of {precisions}", "Write PRECISION=FILE")
        verdicts.setdefault(name, []).append(read(path))
    return recommend(precisions, verdicts, read(export_quality))


def read(path: Path) -> dict[str, Any]:
    """A result file; where a step broke or was skipped, the marker beside it counts instead.

    Neither there: not measured. Raises `IngotError` on a file that is no result.
    """
    marker = path.parent / MARKERS / f"{path.stem}.failed.json"
    found = marker if marker.is_file() else path
    if not found.is_file():
        return {"verdict": "skipped", "reasons": [f"{path.stem} was not measured"]}
    try:
        value = json_files.read(found)
        result = {"verdict": value["verdict"], "reasons": list(value["reasons"])}
    except (ValueError, KeyError, TypeError):
        result = {"verdict": None}
    if result["verdict"] not in VERDICTS:
        raise IngotError(found, "is no result: verdict and reasons are missing", "Make it again")
    return result


def _why(order: list[str], precisions: dict[str, dict[str, Any]], chosen: str | None) -> list[str]:
    passed_over = order if chosen is None else order[: order.index(chosen)]
    reasons = []
    if chosen is not None:
        how = "passed every gate" if precisions[chosen]["verdict"] == "passed" else "passed with a warning"
        first = " of those that passed" if passed_over else ""
        reasons.append(f"{chosen} {how} and is the first choice{first}")
        reasons += precisions[chosen]["reasons"]
    for name in passed_over:
        what = "; ".join(precisions[name]["reasons"]) or "no reason given"
        reasons.append(f"{name} was {precisions[name]['verdict']}: {what}")
    return reasons

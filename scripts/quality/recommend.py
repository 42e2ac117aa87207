"""Which precision to deploy: the first, in the user's order, that passed everything it was judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import IngotError
from scripts.definitions.passes import not_run
from scripts.quality.gates import Judged, because, worst
from scripts.results import base
from scripts.results.base import Outcome
from scripts.results.quality import Advice

GOOD = ("passed", "warned")


def recommend(
    order: list[str],
    verdicts: Mapping[str, Sequence[Judged]],
    export: Judged,
    elsewhere: Mapping[str, str] | None = None,
) -> Advice:
    """Choose among `order` (best liked first).

    `verdicts`: for each precision its quality result, domain result, …; a precision with none was not measured, and
    cannot be chosen. `export`: the quality result of the float export; when it is refused, the model was converted
    wrongly, and every precision is refused with it. `elsewhere`: the execution providers of those that are made for
    another one than this machine's, which nobody has seen answer: none of them can be chosen.
    """
    precisions = {}
    for name in order:
        results = verdicts.get(name) or [Outcome(verdict="skipped", reasons=["not measured"])]
        verdict = worst(result.verdict for result in results)
        reasons = because(results, verdict)
        if export.verdict not in GOOD:
            # A broken measurement of the export proves nothing against the precision: it is skipped, not refused.
            verdict = worst([verdict, "refused" if export.verdict == "refused" else "skipped"])
            reasons = [f"export: {reason}" for reason in export.reasons or [export.verdict]] + reasons
        if verdict in GOOD and name in (elsewhere or {}):
            verdict, reasons = "skipped", [not_run((elsewhere or {})[name]), *reasons]
        precisions[name] = Outcome(verdict=verdict, reasons=reasons)
    chosen = next((name for name in order if precisions[name].verdict in GOOD), None)
    return Advice(recommended=chosen, reasons=_why(order, precisions, chosen), precisions=precisions)


def from_files(
    export_quality: Path, quality: list[str], domain: list[str], precisions: Any,
    elsewhere: Mapping[str, str] | None = None,
) -> Advice:  # fmt: skip
    """`recommend` over result files, each `PRECISION=FILE`, or a file in a folder named after its precision.

    In place of a result there may be the marker of the step that should have made it.
    """
    if not isinstance(precisions, list) or not precisions or not all(isinstance(name, str) for name in precisions):
        raise IngotError("--precisions", f"expected a JSON list of names, found {precisions!r}")
    verdicts: dict[str, list[Outcome]] = {}
    for value in [*quality, *domain]:
        name, mark, rest = value.partition("=")
        path = Path(rest) if mark and name in precisions else Path(value)
        if not (mark and name in precisions):
            # The marker of a step that stopped stands one folder deeper than its result.
            name = (path.parent.parent if path.parent.name == base.MARKERS else path.parent).name
        if name not in precisions:
            raise IngotError(path, f"does not belong to a precision of {precisions}", "Write PRECISION=FILE")
        verdicts.setdefault(name, []).append(read(path))
    return recommend(precisions, verdicts, read(export_quality), elsewhere)


def read(path: Path) -> Outcome:
    """The verdict of a result file; where a step broke or was skipped, the marker beside it counts instead.

    Neither there: not measured. Raises `IngotError` on a file that is not a result.
    """
    for file in (base.marker_of(path), path):
        if file.is_file():
            return base.read(file, Outcome, "Make it again")
    return Outcome(verdict="skipped", reasons=[f"{path.stem} was not measured"])


def _why(order: list[str], precisions: Mapping[str, Outcome], chosen: str | None) -> list[str]:
    passed_over = order if chosen is None else order[: order.index(chosen)]
    reasons = []
    if chosen is not None:
        how = "passed every gate" if precisions[chosen].verdict == "passed" else "passed with a warning"
        first = " of those that passed" if passed_over else ""
        reasons.append(f"{chosen} {how} and is the first choice{first}")
        reasons += precisions[chosen].reasons
    for name in passed_over:
        what = "; ".join(precisions[name].reasons) or "no reason given"
        reasons.append(f"{name} was {precisions[name].verdict}: {what}")
    return reasons

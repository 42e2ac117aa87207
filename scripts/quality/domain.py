"""The model's own job, put to it as cases in the runtime that serves it, and scored against the float export.

The package is opened in a private catalog that is thrown away, so a refused precision is scored too. Decoding is
greedy. A score is compared case by case with that of the float export, packaged alike: which cases were lost, which
were won, and how sure that is (`paired`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
from msgspec.structs import replace

from scripts.cases import cases as parsing
from scripts.cases import checks
from scripts.common.errors import IngotError
from scripts.definitions.gates import OF_DOMAIN, parse_gates
from scripts.quality import paired
from scripts.quality.asking import Reply, ask
from scripts.results import base, measured
from scripts.results.base import Verdict
from scripts.results.domain import Answer, Baseline, Domain, ToolCall
from scripts.runtime import foundry as foundry

#: Per cent of the cases. A float model that passes fewer cannot measure its precisions.
HALF = 50.0
_ROUNDING = 1e-9  # points
#: At most so many cases are asked where nobody says how many.
ASKED = 100


def run(
    package: Path, cases: Path, schema: Path | None, baseline: Path | None, gates: Any, limit: int = ASKED,
    measure: str | None = None,
) -> Domain:  # fmt: skip
    """Ask the package at most `limit` cases, spread over the file; returns the content of domain.json.

    `measure`: the precision that the baseline is of, where the float export is too large to be served; without a
    baseline, what is asked is that precision itself, which nothing is there to compare with.
    Raises `IngotError` on bad input, on a package that the runtime does not load, on a baseline of other cases, and
    where not one case was answered.
    """
    limits = parse_gates(gates)
    asked = Asked.read(cases, schema, limit)
    against = _baseline(baseline, asked.digest, len(asked.cases))
    if against is None and measure:
        limits = {name: limit for name, limit in limits.items() if name != "domain_points"}
    if against is None and "domain_points" in limits:
        raise IngotError("--gates", "domain_points needs a baseline", "Give --baseline, the float export's domain.json")
    result = asked.put_to(package, against, constrain=True)
    if result.baseline and measure:
        result = replace(result, baseline=replace(result.baseline, precision=measure))
    verdict, reasons = judge(result, limits)
    if against is None and measure:
        told = f"the float export is too large to be served here: {measure} is what the others are compared with"
        verdict, reasons = "warned" if verdict == "passed" else verdict, [*reasons, told]
    used = {name: limits[name] for name in OF_DOMAIN if name in limits}
    return replace(result, verdict=verdict, reasons=reasons, gates=used)


@dataclass(frozen=True)
class Asked:
    """The cases to put to a package, of `total` in the file, and the schema of an answer."""

    cases: list[parsing.Case]
    validator: jsonschema.protocols.Validator | None
    total: int
    limit: int

    @classmethod
    def read(cls, cases: Path, schema: Path | None, limit: int) -> Asked:
        """Raises `IngotError` on a mistake in either file."""
        if limit < 1:
            raise IngotError("--limit", f"expected at least 1, found {limit}")
        every = parsing.load(cases)
        chosen = spread(every, limit)
        validator = parsing.load_schema(schema) if schema else None
        if validator is None and (asking := [case.id for case in chosen if case.expect.schema]):
            raise IngotError(cases, f"{asking[0]!r} expects a schema, and none is given", "Give --schema")
        return cls(chosen, validator, len(every), limit)

    @property
    def digest(self) -> str:
        """Of what is asked and expected."""
        return parsing.digest(self.cases, self.validator.schema if self.validator else None)

    def put_to(self, package: Path, against: Domain | None, *, constrain: bool = False) -> Domain:
        """The score of a package, not judged yet; `constrain`: also held to the schema.

        Raises `IngotError` where it can't be loaded, or answers nothing.
        """
        if not (package / "genai_config.json").is_file():
            remedy = "Build the package first"
            raise IngotError(package, "is not a package: there is no genai_config.json in it", remedy)
        replies, held = ask(package, self.cases, self.validator, against, constrain=constrain)
        if all(reply.error for reply in replies):
            raise IngotError(package, f"the runtime answered none of {len(replies)} cases: {replies[0].error}")
        result = score(self.cases, replies, self.validator, against)
        print(f"domain: {result.passed} of {result.asked} asked are right; the file holds {self.total}", flush=True)
        return replace(
            result, constrained=held, cases_total=self.total, limit=self.limit, digest=self.digest,
            package=measured.digest(package), runtime=foundry.label(),
        )  # fmt: skip


def spread(cases: list[parsing.Case], limit: int) -> list[parsing.Case]:
    """At most `limit` of the cases, at even distances: files are often sorted by kind, and the first are all alike."""
    count = min(limit, len(cases))
    return [cases[len(cases) * number // count] for number in range(count)]


def score(
    cases: list[parsing.Case],
    replies: list[Reply],
    validator: jsonschema.protocols.Validator | None,
    baseline: Domain | None,
) -> Domain:
    """A result that is not judged yet: score, answers, share valid by the schema, accuracy by field, the pairing with a
    baseline. Shares in %.
    """
    rows, valid, hits = list[Answer](), 0, dict[str, list[bool]]()
    for case, reply in zip(cases, replies, strict=True):
        right = {name: failure is None for name, failure in checks.fields(reply.text, case.labels).items()}
        for name, hit in right.items():
            hits.setdefault(name, []).append(hit)
        asked = parsing.as_json(case) if reply.cut else case
        judged = [] if reply.error else parsing.judge(asked, reply.text, validator, reply.calls)
        failures = [f"no answer: {reply.error}"] if reply.error else judged
        valid += validator is not None and checks.schema(reply.text, validator) is None
        rows.append(
            Answer(
                id=case.id, asked=case.messages[-1]["content"], text=reply.text, passed=not failures,
                failures=failures, fields=right, cut=reply.cut,
                calls=[ToolCall(name=name, arguments=arguments) for name, arguments in reply.calls],
            )
        )  # fmt: skip
    passed = sum(row.passed for row in rows)
    return Domain(
        verdict="passed",
        reasons=[],
        score=_percent(passed, len(rows)),
        score_interval=paired.wilson(passed, len(rows)),
        passed=passed,
        asked=len(rows),
        schema_valid=None if validator is None else _percent(valid, len(rows)),
        fields={name: _percent(sum(hit), len(hit)) for name, hit in sorted(hits.items())},
        baseline=_paired(rows, baseline) if baseline else None,
        cases=rows,
    )


def _paired(rows: list[Answer], baseline: Domain) -> Baseline:
    now, before = ({row.id: row.passed for row in answers} for answers in (rows, baseline.cases))
    interval, won, lost = paired.of_answers(now, {name: before[name] for name in now})
    return Baseline(
        score=baseline.score, lost=lost, won=won, p_value=paired.mcnemar(len(lost), len(won)),
        difference_interval=interval,
    )  # fmt: skip


def judge(result: Domain, gates: Mapping[str, float]) -> tuple[Verdict, list[str]]:
    """Verdict and reasons for a score (see `score`): by itself, and compared with the float export's.

    The score decides. Where it passes a gate and its 95 % interval reaches beyond, there are too few cases to tell:
    that warns, and so does a float model that fails more cases than it passes, for then they don't show what
    quantising costs.
    """
    held = [found for found in (_by_floor(result, gates), _by_points(result, gates)) if found]
    refused = [reason for verdict, reason in held if verdict == "refused"]
    warned = [reason for verdict, reason in held if verdict == "warned"]
    if refused:
        return "refused", refused + warned
    against = result.baseline
    who, score = ("it", result.score) if against is None else (f"{_whose(against)} itself", against.score)
    if score < HALF:
        passed = round(score * result.asked / 100)
        told = f"{who} gets {passed} of {result.asked} cases asked right, fewer than half"
        warned.append(f"{told}: they do not show what the model can do, nor what quantising costs")
    return ("warned" if warned else "passed"), warned


def _by_floor(result: Domain, gates: Mapping[str, float]) -> tuple[Verdict, str] | None:
    floor = gates.get("domain_floor")
    low, high = result.score_interval or (result.score, result.score)
    if floor is None or low >= floor - _ROUNDING:
        return None
    told = f"domain score is {result.score:.4g} % (95 %: {low:.4g} to {high:.4g})"
    gate = f"the gate asks for {floor:g}"
    if result.score >= floor - _ROUNDING:
        return "warned", f"{_too_few(result)}: {told}; {gate}"
    return "refused", f"{told}; {gate}" + (f"; {_too_few(result, 'to tell for sure')}" if high >= floor else "")


def _by_points(result: Domain, gates: Mapping[str, float]) -> tuple[Verdict, str] | None:
    gate, against = gates.get("domain_points"), result.baseline
    if gate is None or against is None:
        return None
    points = result.score - against.score
    low, high = against.difference_interval or (points, points)
    if -low <= gate + _ROUNDING:
        return None
    pairs = f"{len(against.lost)} of {result.asked} cases asked lost, {len(against.won)} won"
    told = f"domain score is {_beside(points)} {_whose(against)}'s (95 %: {low:+.3g} to {high:+.3g}; {pairs})"
    allowed = f"the gate allows {gate:g}"
    if -points <= gate + _ROUNDING:
        return "warned", f"{_too_few(result)}: {told}; {allowed}"
    unsure = f"; {_too_few(result, 'to tell for sure')}" if -high <= gate else ""
    return "refused", f"{told}; {allowed}; by chance alone with p = {against.p_value:.2g}{unsure}"


def _whose(against: Baseline) -> str:
    """What a score is compared with."""
    return "the float export" if against.precision == "float" else against.precision


def _too_few(result: Domain, what: str = "to tell") -> str:
    more = f" of {result.cases_total}; evaluation.limit asks more" if result.cases_total > result.asked else ""
    return f"too few cases {what} ({result.asked} asked{more})"


def _beside(points: float) -> str:
    return f"{abs(points):.4g} points {'below' if points < 0 else 'above'}" if points else "as high as"


def _baseline(path: Path | None, digest: str, count: int) -> Domain | None:
    if path is None:
        return None
    try:
        known = base.read(path, Domain, "Give the domain.json of the float export")
    except FileNotFoundError:
        raise IngotError(path, "there is no such file", "Run the float export's domain cases first") from None
    if known.digest != digest:
        found = f"has the answers to {len(known.cases)} cases, and not to these {count}"
        raise IngotError(path, found, "Run both with the same --cases, --schema and --limit")
    return known


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2)

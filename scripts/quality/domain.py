"""The model's own job, put to it as cases in the runtime that serves it, and scored against the float export.

The package is opened in a private catalog that is thrown away, so a refused precision is scored too. Decoding is
greedy. A score is compared case by case with that of the float export, packaged alike: which cases were lost, which
were won, and how often chance alone would part the two as far (McNemar's exact test).
"""

from __future__ import annotations

import math
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
from scripts.results import base, measured
from scripts.results.base import Interval, Verdict
from scripts.results.domain import Answer, Baseline, Domain
from scripts.runtime import foundry as foundry

#: Per cent of the cases. A float model that passes fewer cannot measure its precisions.
HALF = 50.0
#: Of the normal distribution: 95 % lie within so many standard deviations.
_Z = 1.959964
#: What the package is called in the private catalog: any name will do, and its own tells of no more than the card does.
_ID = "judged-generic-cpu:1"


@dataclass(frozen=True)
class Reply:
    """What came back for one case; `error` where nothing did."""

    text: str
    error: str | None = None


def run(package: Path, cases: Path, schema: Path | None, baseline: Path | None, gates: Any, limit: int = 32) -> Domain:
    """Ask the package the first `limit` cases; returns the content of domain.json.

    Raises `IngotError` on bad input, on a package that the runtime does not load, on a baseline of other cases, and
    where not one case was answered.
    """
    limits = parse_gates(gates)
    if limit < 1:
        raise IngotError("--limit", f"expected at least 1, found {limit}")
    every = parsing.load(cases)
    chosen = every[:limit]
    validator = parsing.load_schema(schema) if schema else None
    if validator is None and (asking := [case.id for case in chosen if case.expect.schema]):
        raise IngotError(cases, f"{asking[0]!r} expects a schema, and none is given", "Give --schema")
    digest = parsing.digest(chosen, validator.schema if validator else None)
    against = _baseline(baseline, digest, len(chosen))
    if against is None and "domain_points" in limits:
        raise IngotError("--gates", "domain_points needs a baseline", "Give --baseline, the float export's domain.json")
    if not (package / "genai_config.json").is_file():
        raise IngotError(package, "is not a package: there is no genai_config.json in it", "Build the package first")

    replies = ask(package, chosen)
    if all(reply.error for reply in replies):
        raise IngotError(package, f"the runtime answered none of {len(chosen)} cases: {replies[0].error}")
    result = score(chosen, replies, validator, against)
    verdict, reasons = judge(result, limits)
    print(f"domain: {result.passed} of {result.asked} asked are right; the file holds {len(every)}", flush=True)
    return replace(
        result,
        verdict=verdict,
        reasons=reasons,
        gates={name: limits[name] for name in OF_DOMAIN if name in limits},
        cases_total=len(every),
        limit=limit,
        digest=digest,
        package=measured.digest(package),
        runtime=foundry.label(),
    )


def ask(package: Path, cases: list[parsing.Case]) -> list[Reply]:
    """Put every case to the package in the Foundry runtime, greedily, each as a conversation of its own."""
    replies = []
    with foundry.Runtime() as runtime:
        runtime.register(package, _ID)
        chat = runtime.load(_ID)
        for number, case in enumerate(cases, 1):
            try:
                answer = chat.complete(case.messages, temperature=0, max_tokens=case.max_tokens)
                replies.append(Reply(answer.text.encode("utf-8", "replace").decode()))
            except foundry.RuntimeFault as error:
                replies.append(Reply("", str(error)))
            print(f"domain: {number} of {len(cases)} asked", flush=True)
    return replies


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
        failures = [f"no answer: {reply.error}"] if reply.error else parsing.judge(case, reply.text, validator)
        valid += validator is not None and checks.schema(reply.text, validator) is None
        rows.append(
            Answer(
                id=case.id, asked=case.messages[-1]["content"], text=reply.text, passed=not failures,
                failures=failures, fields=right,
            )
        )  # fmt: skip
    passed = sum(row.passed for row in rows)
    return Domain(
        verdict="passed",
        reasons=[],
        score=_percent(passed, len(rows)),
        score_interval=wilson(passed, len(rows)),
        passed=passed,
        asked=len(rows),
        schema_valid=None if validator is None else _percent(valid, len(rows)),
        fields={name: _percent(sum(hit), len(hit)) for name, hit in sorted(hits.items())},
        baseline=_paired(rows, baseline) if baseline else None,
        cases=rows,
    )


def _paired(rows: list[Answer], baseline: Domain) -> Baseline:
    before = {row.id: row.passed for row in baseline.cases}
    lost = [row.id for row in rows if before[row.id] and not row.passed]
    won = [row.id for row in rows if row.passed and not before[row.id]]
    return Baseline(score=baseline.score, lost=lost, won=won, p_value=mcnemar(len(lost), len(won)))


def wilson(passed: int, asked: int) -> Interval:
    """The 95 % interval of a share, in %, by Wilson's score (1927), which holds for few cases and at 0 and 100 %."""
    z2, share = _Z**2, passed / asked
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    reach = _Z / (1 + z2 / asked) * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return [round(100 * max(0.0, middle - reach), 2), round(100 * min(1.0, middle + reach), 2)]


def mcnemar(lost: int, won: int) -> float:
    """How often chance alone would part two models at least as far on the cases that only one of them passes.

    McNemar's test in its exact form: two-sided, by the binomial distribution of even odds.
    """
    count = lost + won
    tail = sum(math.comb(count, k) for k in range(min(lost, won) + 1))
    return round(min(1.0, 2 * tail / (1 << count)), 6)


def judge(result: Domain, gates: Mapping[str, float]) -> tuple[Verdict, list[str]]:
    """Verdict and reasons for a score (see `score`): by itself, and compared with the float export's.

    Where the float model itself fails more cases than it passes, they don't show what quantising costs: that warns.
    """
    reasons, against, floor = list[str](), result.baseline, gates.get("domain_floor")
    if floor is not None and result.score < floor - 1e-9:
        reasons.append(f"domain score is {result.score:.4g} %; the gate asks for {floor:g}")
    if against is not None and "domain_points" in gates:
        points, gate = against.score - result.score, gates["domain_points"]
        if points > gate + 1e-9:
            pairs = f"{len(against.lost)} of {result.asked} cases asked lost, {len(against.won)} won"
            reasons.append(
                f"domain score is {points:.4g} points below the float export; the gate allows {gate:g} "
                f"({pairs}; by chance alone with p = {against.p_value:.2g})"
            )
    if reasons:
        return "refused", reasons
    who, score = ("it", result.score) if against is None else ("the float export itself", against.score)
    if score < HALF:
        passed = round(score * result.asked / 100)
        told = f"{who} gets {passed} of {result.asked} cases asked right, fewer than half"
        return "warned", [f"{told}: they do not show what the model can do, nor what quantising costs"]
    return "passed", []


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

"""domain.json and lm-eval.json: the model's own job, and the user's own tasks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct, field

from scripts.results.base import Count, Interval, Percent, Share, Verdict
from scripts.results.metric import Column, metric


class Answer(Struct, kw_only=True, frozen=True):
    """What came back for one case, and what it fails of the things that were expected."""

    id: str
    text: str
    passed: bool
    failures: list[str]
    asked: str = ""
    fields: dict[str, bool] = {}


class Baseline(Struct, kw_only=True, frozen=True):
    """The float export on the same cases; `p_value`: how often chance alone would part the two as far."""

    score: Percent
    lost: list[str]
    won: list[str]
    p_value: Share = 1.0


class Domain(Struct, kw_only=True, frozen=True):
    """domain.json. Of `cases_total` cases in the file the first `limit` were asked; `passed` of them are right.

    `digest` is that of what was asked and expected, `package` that of the files that answered.
    """

    verdict: Verdict
    reasons: list[str]
    score: Annotated[Percent, metric(
        "cases right", "{:.1f}%", unit="%", better=1, gate="domain_floor", loses="domain_points",
        column=Column("domain", 2, "Quality"), description="Cases of the model's own job that were answered right",
    )]  # fmt: skip
    score_interval: Interval | None = None
    passed: Count = 0
    asked: Count = 0
    cases_total: Count = 0
    limit: Count = 0
    schema_valid: Annotated[Percent | None, metric("answers valid by the schema", "{:.1f}%", unit="%", better=1)] = None
    fields: dict[str, Percent] = {}
    baseline: Baseline | None = None
    cases: list[Answer]
    gates: dict[str, float] = {}
    digest: str = ""
    package: str | None = None
    runtime: str = ""


class LmFigure(Struct, kw_only=True, frozen=True):
    """One metric of an lm-eval task, beside the float export's."""

    value: float
    stderr: float | None = None
    higher_is_better: bool | None = None
    of_float: float | None = field(name="float", default=None)
    difference: float | None = None


class LmTask(Struct, kw_only=True, frozen=True):
    """One lm-eval task; `digest` is that of the documents, the prompts and the targets."""

    documents: Count
    digest: str
    metrics: dict[str, LmFigure]


class LmEval(Struct, kw_only=True, frozen=True):
    """lm-eval.json."""

    verdict: Verdict
    reasons: list[str]
    tasks: dict[str, LmTask]
    gates: dict[str, float] = {}
    lm_eval: str = ""
    runtime: str = ""

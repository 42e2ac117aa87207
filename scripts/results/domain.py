"""domain.json and lm-eval.json: the model's own job, and the user's own tasks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct, field

from scripts.results.base import Count, Interval, Percent, Share, Verdict
from scripts.results.metric import Column, metric


class ToolCall(Struct, kw_only=True, frozen=True):
    """A tool that was called; `arguments` as the model wrote them: JSON, unless it is not."""

    name: str
    arguments: str


class Answer(Struct, kw_only=True, frozen=True):
    """What came back for one case, and what it fails of the things that were expected.

    `text` is what was said, `calls` the tools that were called: text that only looks like a call is none. `cut`: it was
    to be JSON, and was ended where no JSON begins like it; `text` is what was said until then.
    """

    id: str
    text: str
    passed: bool
    failures: list[str]
    asked: str = ""
    fields: dict[str, bool] = {}
    calls: list[ToolCall] = []
    cut: bool = False


class Baseline(Struct, kw_only=True, frozen=True):
    """The float export on the same cases, or `precision` where that can't be served; `p_value`: how often chance alone
    would part the two as far.

    `difference_interval`: of the score less that one's, in points.
    """

    score: Percent
    precision: str = "float"
    lost: list[str]
    won: list[str]
    p_value: Share = 1.0
    difference_interval: Interval | None = None


class Constrained(Struct, kw_only=True, frozen=True):
    """The cases whose answer is to be JSON, with decoding held to the schema, beside how they were answered freely.

    Of `cases` as many as `asked` were asked again: those whose free answer is not valid, and of the float export one
    that is; where that came back as it was, the rest would too. `error`: the runtime's, where it does not take the
    schema.
    """

    cases: Count
    asked: Count = 0
    passed: Count = 0
    passed_free: Count = 0
    valid: Count = 0
    valid_free: Count = 0
    won: list[str] = []
    lost: list[str] = []
    error: str | None = None


class Domain(Struct, kw_only=True, frozen=True):
    """domain.json. Of `cases_total` cases in the file at most `limit` were asked, spread over it; `passed` are right.

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
    constrained: Constrained | None = None
    cases: list[Answer]
    gates: dict[str, float] = {}
    digest: str = ""
    package: str | None = None
    runtime: str = ""


class Unadapted(Domain, kw_only=True, frozen=True):
    """baseline.json: the model without its fine-tuning, on the same cases.

    `own_template`: it was asked in the chat template of its own; else in the fine-tuned model's, having none.
    """

    own_template: bool


class Gain(Struct, kw_only=True, frozen=True):
    """A score against that of the model without its fine-tuning, on the same cases; intervals are of 95 %.

    `kept`, of a precision: its points over the float export's. Null where the float export gained nothing for sure.
    Its interval is cautious: it goes as far as the intervals of what was lost to the float export, and of what that
    gained, together allow.
    """

    points: Annotated[float, metric("points gained by fine-tuning", "{:+.1f}", unit="points", better=1)]
    points_interval: Interval
    won: list[str]
    lost: list[str]
    p_value: Share
    kept: Annotated[float | None, metric("share of the gain kept", "{:.0f}%", unit="%", better=1)] = None
    kept_interval: Interval | None = None


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

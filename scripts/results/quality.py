"""quality.json and recommend.json."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct, field

from scripts.results.base import Count, Interval, Outcome, Positive, Share, Verdict
from scripts.results.metric import Column, metric


class Stretch(Struct, kw_only=True, frozen=True):
    """Mean KL of one stretch of a text, [from, to) in positions."""

    start: Count = field(name="from")
    end: Count = field(name="to")
    kl: Positive | None


class Distance(Struct, kw_only=True, frozen=True):
    """How far a model is from the float one. Below 10⁻⁵ nats two sound runs differ by the rounding of float32."""

    kl: Annotated[Positive | None, metric(
        "KL", "{:.2g}", unit="nats", better=-1, floor=1e-5, gate="kl", warns="kl_warn",
        column=Column("KL", 1, "Quality", ("kl_p99", "p99 {}")),
        description="Mean KL(float ‖ this): the export against the checkpoint, a precision against the export; the "
        "worst text counts",
    )]  # fmt: skip
    kl_interval: Interval | None = None
    kl_p99: Annotated[Positive | None, metric(
        "KL p99", "{:.2g}", unit="nats", better=-1, gate="kl_p99", description="KL at 99 of 100 positions at most",
    )] = None  # fmt: skip
    top1: Annotated[Share | None, metric(
        "top-1 agreement", "{:.1f}%", factor=100, better=1, floor=2e-3, gate="top1",
        column=Column("top-1", 6, "Quality"),
        description="How often the first choice is the float model's, where that one is sure",
    )]  # fmt: skip
    top1_interval: Interval | None = None
    top1_all: Annotated[Share | None, metric("top-1 agreement, all positions", "{:.1f}%", factor=100)] = None
    perplexity_ratio: Annotated[Positive | None, metric(
        "perplexity ratio", "{:.3f}", better=-1, floor=2e-4, gate="perplexity_ratio",
        column=Column("ppl ratio", 9, "Quality"), description="Perplexity over the float model's",
    )]  # fmt: skip
    perplexity_ratio_interval: Interval | None = None
    perplexity: Annotated[Positive | None, metric("perplexity", "{:.2f}")] = None
    perplexity_float: Annotated[Positive | None, metric("perplexity of the float model", "{:.2f}")] = None


class Text(Distance, kw_only=True, frozen=True):
    """One text's figures; `error` where it could not be compared, and then they are None."""

    error: str | None = None
    positions: Count = 0
    sure_positions: Count = 0
    kl_by_position: list[Stretch] = []


class Quality(Distance, kw_only=True, frozen=True):
    """quality.json: the figures of the worst text; None in them where logits were not numbers."""

    verdict: Verdict
    reasons: list[str]
    against: Literal["export", "checkpoint"] | None = None
    gates: dict[str, float] = {}
    vocabulary: dict[str, int] = {}
    texts: dict[str, Text] = {}
    #: Of an export: around each length at which the model changes, by how it was fed; only KL is judged there.
    changes: dict[str, Text] = {}


class Device(Struct, kw_only=True, frozen=True):
    """device.json: a precision on the device that it was made for. `device`: on what, as far as that is known; `kl`,
    `top1`: against the float export on the CPU, over so many `positions`; `alike`: so many answers to the `cases` are
    those of the same graph on the CPU.
    """

    verdict: Verdict
    reasons: list[str]
    provider: str
    device: str
    kl: Positive | None
    top1: Share | None
    positions: Count = 0
    cases: Count = 0
    alike: Count = 0
    gates: dict[str, float] = {}
    seconds: Positive | None = None
    package: str | None = None
    runtime: str = ""


class ReferenceText(Struct, kw_only=True, frozen=True):
    """One text of a reference: `tokens` were taken of the `text_tokens` that were read; `chunks` hold it."""

    tokens: Count
    positions: Count
    text_tokens: Count
    chunks: list[str]


class ReferenceSpan(Struct, kw_only=True, frozen=True):
    """One stretch of a reference's long passage, [start, stop) in positions; `files` by the way that it was fed."""

    start: Count
    stop: Count
    what: str
    files: dict[str, str]


class Reference(Struct, kw_only=True, frozen=True):
    """index.json of a reference: the width of the logits, the ids that text can give, positions to a chunk."""

    format: int
    vocab_size: Count
    tokenizer_size: Count
    rows: Count
    texts: dict[str, ReferenceText]
    passage: list[ReferenceSpan]


class Advice(Struct, kw_only=True, frozen=True):
    """recommend.json: the precision to deploy, why that one, why none before it."""

    recommended: str | None
    reasons: list[str]
    precisions: dict[str, Outcome] = {}

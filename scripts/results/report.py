"""report.json: every result of a build; and accepted.json, the one that later ones are compared with.

A null was not measured. A figure stands beside the package that it was measured on, or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

from scripts.common.errors import IngotError
from scripts.results import base
from scripts.results.base import Bytes, Outcome, Positive, Table, Verdict
from scripts.results.bench import Bench, BenchFull, Context, Level, Soak
from scripts.results.domain import Domain, Gain, Unadapted
from scripts.results.foundry import Check, Edges, Figures, Stands
from scripts.results.metric import Column, Metric, metric, of, registry
from scripts.results.quality import Device, Quality
from scripts.results.remarks import Remark

VERSION: Literal[2] = 2
#: Where the published schema stands; `python -m scripts.results` writes it.
SCHEMA = Path(__file__).parents[1] / "report" / "report.schema.json"

Kind = Literal["regression", "improvement", "change"]
KINDS: tuple[Kind, ...] = ("regression", "improvement", "change")


class Change(Struct, kw_only=True, frozen=True):
    """One difference from the accepted report; `noise`: the share that it had to exceed."""

    model: str | None
    precision: str | None
    metric: str
    before: Any
    after: Any
    noise: Positive | None
    kind: Kind
    cases: list[str] = []


class Changes(Struct, kw_only=True, frozen=True):
    """Since the report that `doit accept` kept; `accepted_at` as ISO 8601."""

    accepted_at: str | None
    note: str | None
    entries: list[Change]


class Step(Struct, kw_only=True, frozen=True):
    """A step that broke, or was skipped because another one did."""

    step: str
    verdict: Literal["failed", "skipped"]
    reasons: list[str]
    log: str | None


class Deployed(Struct, kw_only=True, frozen=True):
    """A model in the Foundry cache; `folder`: its own."""

    id: str
    cache: str
    folder: str | None = None
    verified: bool


class Version(Struct, kw_only=True, frozen=True):
    """One version of a deployed precision; `changes`, from the version before to this one, where both were measured."""

    id: str
    listed: bool
    verified_at: str | None
    measured: Figures | None
    changes: list[Change] | None = None


class Size(Struct, kw_only=True, frozen=True):
    """What the files of a precision, or of the float export, weigh."""

    size_bytes: Annotated[Bytes | None, metric(
        "size", "", unit="bytes", better=-1, floor=1e-3, floor_is_share=True,
        column=Column("size", 2, "Size", ("size_ratio", "{} of float")), description="The ONNX folder",
    )]  # fmt: skip
    bits_per_weight: Annotated[Positive | None, metric(
        "bits per weight", "{:.2f}", better=-1, column=Column("bits/weight", 11, "Size"),
        description="Bits of the weights' files (graph and data) over the parameters of the checkpoint; embeddings and "
        "output head are counted, whatever they are stored in. Of 4-bit formats in blocks, 4.3 to 4.9 is usual",
    )] = None  # fmt: skip


class Export(Size, kw_only=True, frozen=True):
    """The float export against the checkpoint."""

    verdict: Verdict
    reasons: list[str]
    quality: Quality | None
    domain: Domain | None
    gain: Gain | None = None
    stale: list[str] = []


class Precision(Size, kw_only=True, frozen=True):
    """One precision: its verdict is the worst of all that it was judged by."""

    precision: str
    verdict: Verdict
    reasons: list[str]
    size_ratio: Annotated[Positive | None, metric(
        "size over the float export's", "{:.2f}×", column=Column("of float", 10, "Size"),
    )]  # fmt: skip
    #: The execution provider that it is made for; one that is not "cpu" was not run.
    target: str = "cpu"
    notes: list[str]
    quality: Quality | None
    domain: Domain | None
    gain: Gain | None = None
    performance: Bench | None
    deployed: Deployed | None
    deployment: Outcome | None
    verification: Outcome | None
    apps: list[Check] = []
    performance_full: BenchFull | None
    soak: Soak | None
    edges: Edges | None
    device: Device | None = None
    stale: list[str] = []
    stands: list[Stands] = []
    versions: list[Version] = []


class Base(Struct, kw_only=True, frozen=True):
    """The model without its fine-tuning; `reasons`, where it was skipped."""

    verdict: Verdict
    reasons: list[str]
    domain: Unadapted | None


class Model(Struct, kw_only=True, frozen=True):
    """`recommended`: the precision to deploy, `reasons`: why that one, and why none before it."""

    name: str
    recommended: str | None
    reasons: list[str]
    export: Export
    precisions: list[Precision]
    base: Base | None = None
    failures: list[Step]
    remarks: list[Remark] = []
    settings: Table | None = None


class Cache(Struct, kw_only=True, frozen=True):
    """The Foundry cache: what this configuration has in it and no precision of the report stands for; what was taken
    down, being refused or not asked for.
    """

    folder: str
    others: list[Stands] = []
    removed: list[str] = []


class Called(Struct, kw_only=True, frozen=True):
    """How the build was called: the variables of `doit` as they were typed, and the build folder as typed and whole."""

    options: list[str] = []
    build: str = "build"
    folder: str | None = None


class Report(Struct, kw_only=True, frozen=True):
    """Everything that a build measured. A null was not measured. Objects may hold more than is listed."""

    version: Literal[2]
    models: list[Model]
    environment: Table
    changes: Changes | None = None
    called: Called = Called()
    cache: Cache | None = None


class Accepted(Struct, kw_only=True, frozen=True):
    """accepted.json."""

    accepted_at: str | None
    note: str | None
    report: Report


#: What a precision is told of in the table, in the order of its columns: field of `Precision` → type of what is there.
#: The empty name is the precision itself.
SECTIONS: dict[str, type[Struct]] = {"": Precision, "performance": Bench, "quality": Quality, "domain": Domain}
#: What else is told of a precision, or of the float export.
BESIDE: tuple[type[Struct], ...] = (Gain,)
#: The columns stand together by these headings, in this order.
GROUPS = ("Size", "Speed", "Memory", "Quality")
#: Every metric by its name.
METRICS: dict[str, Metric] = registry([*SECTIONS.values(), *BESIDE, BenchFull, Context, Level])


def columns() -> list[tuple[str, Metric]]:
    """The columns of the table of precisions: the section that a metric stands in, and its entry."""
    found = [(name, entry) for name, kind in SECTIONS.items() for entry in of(kind).values() if entry.column]
    return sorted(found, key=lambda item: GROUPS.index(item[1].column.group))  # type: ignore[union-attr]


def schema() -> dict[str, Any]:
    """The JSON schema of report.json."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ingot:report:{VERSION}",
        "title": f"report.json, version {VERSION}",
        "description": Report.__doc__,
    }
    definitions: dict[str, dict[str, Any]] = msgspec.json.schema(Report)["$defs"]
    return head | {**definitions.pop("Report"), **head, "$defs": definitions}


class _Versioned(Struct):
    version: int


class _Kept(Struct):
    report: _Versioned


def accepted(path: Path) -> Accepted:
    """What `doit accept` kept. Raises `IngotError` where that can't be read, or is of another version."""
    again = "Remove it, build, and run doit accept again"
    version = base.read(path, _Kept, again).report.version
    if version != VERSION:
        raise IngotError(path, f"holds a report of version {version}; this is {VERSION}", again)
    return base.read(path, Accepted, again)

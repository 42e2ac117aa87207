"""deploy.json, reconcile.json, verify.json and edges.json: what is in the Foundry cache, and how it answers there."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from scripts.results.base import Bytes, Count, Positive, Table, Verdict
from scripts.results.bench import Bench
from scripts.results.domain import Domain
from scripts.results.quality import Quality
from scripts.results.remarks import Remark

#: Whose fault an answer to an edge case is: nobody's, Ingot's, the Foundry runtime's.
Fault = Literal["passed", "ingot", "runtime"]


class Deploy(Struct, kw_only=True, frozen=True):
    """deploy.json. `path` and `action` are None where the model was held back; where `doit rollback` took this content
    back, `taken_back` is its folder. `signed`: its signature was verified, and lies beside it; `signed_content` is the
    digest of what was signed, which two signatures of one package share.
    """

    verdict: Verdict
    reasons: list[str]
    id: str
    cache: str
    path: str | None = None
    action: Literal["deployed", "replaced", "registered again", "reused", "rolled back"] | None = None
    taken_back: str | None = None
    runtime: str = ""
    signed: bool = False
    signed_content: str | None = None


#: What is to become of a model that Ingot put into a cache: it is what the build deploys; another version of that, for
#: rolling back; it was refused or not judged this time, and stays; nothing asks for it any more.
Standing = Literal["deployed", "version", "kept", "orphan"]


class Figures(Struct, kw_only=True, frozen=True):
    """measured.json beside a deployed version: what the build that made it found, as far as it was about this content.

    Without samples, and without the texts of answers: a later version is compared with it by the same rules as a
    report with the accepted one.
    """

    verdict: Verdict
    size_bytes: Bytes | None = None
    quality: Quality | None = None
    domain: Domain | None = None
    performance: Bench | None = None


class Stands(Struct, kw_only=True, frozen=True):
    """A model in a Foundry cache that this configuration put there; `told` is what a reader should know of it, empty
    where it is what the build deploys. `listed`: it is not taken back; `verified_at`: when it answered as it should.
    """

    id: str
    folder: str
    standing: Standing
    told: str = ""
    model: str | None = None
    precision: str | None = None
    listed: bool = True
    verified_at: str | None = None
    figures: Figures | None = None


class Reconciled(Struct, kw_only=True, frozen=True):
    """reconcile.json: all that this configuration has in the cache, and what was taken down."""

    verdict: Verdict
    reasons: list[str]
    cache: str
    config: str
    own_cache: bool = True
    stands: list[Stands] = []
    removed: list[str] = []


class Check(Struct, kw_only=True, frozen=True):
    """What an app may ask for: "passed" was seen, "warned" is something to know of, "skipped" could not be asked."""

    name: str
    verdict: Verdict
    told: str


class Verify(Struct, kw_only=True, frozen=True):
    """verify.json: `expected` is what the package answered before; `package` the digest of the files that answered;
    `at` the time, ISO 8601.

    `ended`: whether the answers ended by themselves; what is to be said of that is in `remarks`. `claims`: what of
    `checks` the registration says that the model does.
    """

    verdict: Verdict
    reasons: list[str]
    id: str
    listed: bool = True
    files: Count = 0
    case: str | None = None
    expected: str = ""
    answer: str = ""
    streamed: bool = True
    http: bool = True
    ended: bool | None = None
    remarks: list[Remark] = []
    checks: list[Check] = []
    claims: list[str] = []
    at: str | None = None
    seconds: Positive | None = None
    package: str | None = None
    runtime: str = ""


class EdgeCase(Struct, kw_only=True, frozen=True):
    """One edge case: by which client it was sent, what was expected of it, what came, and whether it still serves."""

    id: str
    what: str
    client: Literal["session", "http"]
    expected: str
    found: str
    outcome: Fault
    serves_after: bool


class Edges(Struct, kw_only=True, frozen=True):
    """edges.json."""

    verdict: Verdict
    reasons: list[str]
    cases: list[EdgeCase]
    markers: Table = {}
    id: str = ""
    context: Count | None = None
    restarts: Count = 0
    package: str | None = None
    runtime: str

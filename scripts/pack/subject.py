"""Which package is to be handed on, and what is known of it: verdict, whether it was verified, its part of the report.

A package is taken as it was built: every file must be as its manifest says, which is found out while it is read.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from scripts.attest import signing
from scripts.attest.papers import SIGNATURE, UNSIGNED_WHY
from scripts.common import manifest
from scripts.common.errors import IngotError, UnknownNameError
from scripts.common.manifest import Files
from scripts.common.model_id import ModelId, parse
from scripts.foundry import cache as caches
from scripts.foundry import signature
from scripts.foundry.standing import Asked
from scripts.report import text
from scripts.report.collect import collect
from scripts.results import base
from scripts.results.base import Outcome
from scripts.results.foundry import Verify
from scripts.results.quality import Advice
from scripts.results.report import Precision

#: Verdicts that keep a precision from being handed on by itself.
HELD = ("refused", "failed")


@dataclass(frozen=True)
class Beside:
    """What the settings say beside what is asked for, by model: the folder below the build of its base; precisions that
    are made for other execution providers than this machine's, and which. `public_key`: by which a signature must be.
    """

    bases: Mapping[str, str]
    elsewhere: Mapping[str, Mapping[str, str]]
    public_key: Path | None = None


@dataclass(frozen=True)
class Subject:
    """A precision that is handed on. `verified`: by what and when, None where it was not; `held`: why it should not be
    handed on, empty where nothing speaks against it; `report`: of its model, as Markdown; `signature`: of the package,
    which was verified; `unsigned`: why it has none although the settings ask for one.
    """

    name: str
    id: ModelId
    package: Path
    files: Files
    verdict: str
    reasons: Sequence[str]
    verified: str | None
    report: str
    signature: bytes | None = None
    unsigned: str = ""

    @property
    def held(self) -> str:
        """Why it should not be handed on; empty where nothing speaks against it."""
        return f"{self.verdict}: {'; '.join(self.reasons)}" if self.verdict in HELD else ""


def find(asked: Asked, word: str) -> tuple[str, str]:
    """(model, precision) of what was typed: MODEL-PRECISION, an id or its name; of a model the recommended precision.

    Raises `UnknownNameError` where there is no such precision, or none is recommended.
    """
    names: dict[str, tuple[str, str]] = {}
    for name, (model, precision) in asked.names.items():
        names |= dict.fromkeys((f"{model}-{precision}".casefold(), name.casefold()), (model, precision))
    folded = word.casefold().partition(":")[0]
    if folded in names:
        return names[folded]
    models = {model.casefold(): model for model, _ in names.values()}
    shown = [f"{model}-{precision}" for model, precision in dict.fromkeys(names.values())]
    there = f"There are: {', '.join(shown) or 'none'}"
    if folded not in models:
        near = difflib.get_close_matches(folded, [*models, *map(str.casefold, shown)], n=1)
        known = {name.casefold(): name for name in [*models.values(), *shown]}
        meant = f"Did you mean {known[near[0]]}? " if near else ""
        raise UnknownNameError(word, "there is no such model", meant + there)
    model = models[folded]
    advice = base.find(asked.build / model / "recommend.json", Advice)
    if advice is None or advice.recommended is None:
        raise UnknownNameError(word, "no precision of it is recommended", f"Name one. {there}")
    return model, advice.recommended


def load(asked: Asked, model: str, precision: str, beside: Beside) -> Subject:
    """What is known of a precision that was packaged.

    Raises `IngotError` where there is no package, or it is not one that Foundry could be given.
    """
    name, package = f"{model}-{precision}", asked.build / model / precision / "attested"
    if not package.is_dir():
        raise IngotError(name, f"is not packaged: {package} is not there", f"Build it first: doit attest:{name}")
    files = caches.manifest_of(package)
    if problem := next((told for told in map(_unportable, files) if told), None):
        raise IngotError(package, problem, "Rename it in the checkpoint, and build again")
    marked = caches.marked_name(package / caches.MARKER)
    others = [own for of, own in asked.names.values() if of == model]
    recipes = {name: {"target": target} for name, target in beside.elsewhere.get(model, {}).items()}
    told = {"name": model, "precisions": others, "base": beside.bases.get(model), "settings": {"recipes": recipes}}
    report = collect(asked.build, [told], options=[])
    # What broke is told of this machine's logs, and the cache is this machine's.
    report = structs.replace(report, cache=None, models=[structs.replace(report.models[0], failures=[])])
    row = next(row for row in report.models[0].precisions if row.precision == precision)
    subject = Subject(
        name, parse(marked or ""), package, files, row.verdict, row.reasons, _verified(package.parent, row),
        text.markdown(base.plain(report)),
    )  # fmt: skip
    return _signed(subject, _id(asked, model, precision), beside.public_key) if beside.public_key else subject


def _id(asked: Asked, model: str, precision: str) -> str:
    """What Foundry should call it."""
    return next(f"{name}:1" for name, of in asked.names.items() if tuple(of) == (model, precision))


def _signed(subject: Subject, model_id: str, public_key: Path) -> Subject:
    """With the signature of the package that is there. Raises `IngotError` where that is of another one."""
    folder = subject.package.parent / "signature"
    if subject.held:
        return replace(subject, unsigned="what a gate refused is not signed")
    if refusal := base.find(folder / UNSIGNED_WHY, Outcome):
        return replace(subject, unsigned="; ".join(refusal.reasons))
    if not (folder / SIGNATURE).is_file() or base.marker_of(folder.with_name("signature.json")).exists():
        return replace(subject, unsigned=f"doit sign:{subject.name} signs it")
    try:
        signed = signing.read(folder / SIGNATURE, public_key)
        problems = signature.problems(subject.package, model_id, signed)
    except signing.NotSignedError as error:
        problems = [str(error)]
    if problems:
        found = f"its signature is of another package: {'; '.join(problems[:3])}"
        raise IngotError(subject.name, found, f"Have it signed: doit sign:{subject.name}")
    return replace(subject, signature=signed.signature)


def _verified(folder: Path, row: Precision) -> str | None:
    if row.deployed is None or not row.deployed.verified:
        return None
    found = base.find(folder / "verify.json", Verify)
    return ", ".join(filter(None, (found.runtime, found.at))) if found else None


def _unportable(name: str) -> str | None:
    """Why a file can't be called so on another system, or in a list of digests; None where it can."""
    bad = sorted({sign for sign in name if sign in "\\:*?\"<>|'" or not sign.isprintable()})
    parts = name.split("/")
    if bad or manifest.MANIFEST in parts or any(part in ("", ".", "..") or part[-1] in ". " for part in parts):
        return f"holds {name!r}, which other systems can't have"
    return None

"""Looking at what stands under an output's name: of which key it is, whether it is whole, and why it is stale.

A look at everything costs a read of every manifest. So what was seen whole leaves a receipt: the key, and the stamp of
each file and folder that was looked at. While the key is the same and no stamp has moved, that is the whole look.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from scripts.common.errors import IngotError, MissingInputError
from scripts.engine import digests, manifest
from scripts.engine.digests import digest_bytes, stamp
from scripts.engine.reasons import Reason, changes
from scripts.engine.state import Stamp

if TYPE_CHECKING:
    from scripts.engine.step import Step


class Look(NamedTuple):
    """What stands under an output's name: `outcome`, a digest of it; `reasons`, why it is stale (none: current)."""

    outcome: str
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Found:
    """An output as it stands: `files` are those to watch; `damage`, how it differs from what was published."""

    outcome: str
    provenance: Mapping[str, Any]
    damage: list[str]
    marks: dict[str, Stamp] | None


def at(step: Step) -> Look:
    """What stands there now."""
    try:
        key = step.key()
    except (IngotError, OSError) as error:
        missing = isinstance(error, FileNotFoundError | MissingInputError)
        return Look("unknown", (Reason("input missing" if missing else "input unusable", _said(error)),))
    if step.unwritten or os.path.exists(step.marker):
        return _at_marker(step, key)
    receipt = step.engine.receipt(step.name)
    if receipt and receipt[0] == key and as_noted(step, receipt[2]):
        return Look(receipt[1])
    return closely(step, key)


def closely(step: Step, key: str) -> Look:
    """Without a receipt that fits: read what stands there, and leave a receipt if it is what it should be."""
    found = read(step)
    if found is None:
        was = step.engine.state.get("cost", step.name) or os.path.lexists(step.output)
        return Look("absent", (Reason("output missing", step.base) if was else Reason("never built", ""),))
    reasons = [Reason("output changed by hand", line) for line in found.damage]
    if found.provenance.get("key") != key:
        reasons += changes(
            found.provenance.get("ingredients") or {}, step.ingredients(), step.input_names(),
            found.provenance.get("files") or {}, step.user_files(),
        )  # fmt: skip
    marks = found.marks
    if not reasons and step.world:
        marks, gone = _of_world(step, marks)
        reasons += [Reason("no longer so", gone)] if gone else []
    if not reasons and marks:
        step.engine.keep_receipt(step.name, [key, found.outcome, [[name, *mark] for name, mark in marks.items()]])
    return Look(found.outcome, tuple(reasons))


def read(step: Step) -> Found | None:
    """An output as it stands; None without one that Ingot published."""
    return _read_result(step) if step.is_result else _read_artifact(step)


def _read_result(step: Step) -> Found | None:
    names = [step.base, os.path.relpath(step.provenance, step.parent)]
    try:
        before = _marks(step.parent, names)
        step.engine.digests.settle(before.values())
        outcome = step.engine.digests.of(str(step.output))
        with open(step.provenance, encoding="utf-8") as file:
            provenance = json.load(file)
        after = _marks(step.parent, names)
    except (OSError, ValueError):
        return None
    if not isinstance(provenance, dict):
        return None
    damage = [] if provenance.get("output") == outcome else [f"{step.base} changed"]
    damage += _edited(provenance)
    return Found(outcome, provenance, damage, after if after == before else None)


def _read_artifact(step: Step) -> Found | None:
    folder = str(step.output)
    listed = manifest.read(folder)
    if listed is None:
        return None
    files, provenance = listed
    folders = {step.base} | {f"{step.base}/{part}" for file in files for part in _parents(file)}
    own = (manifest.MANIFEST, manifest.PROVENANCE)
    names = [*sorted(folders), *(f"{step.base}/{file}" for file in (*files, *own))]
    # Stamps first, and again at last: what is added or edited while we read must not get a receipt.
    before = _marks_or_none(step.parent, names)
    step.engine.digests.settle(before.values() if before else ())
    try:
        found = manifest.scan(folder, step.engine.digests)
    except OSError as error:
        where = os.path.relpath(error.filename, folder) if error.filename else folder
        return Found(f"damaged:{_said(error)}", provenance, [f"{where} {error.strerror}"], None)
    damage = manifest.differences(files, found)
    outcome = manifest.files_digest(files)
    if provenance.get("output", outcome) != outcome:
        damage.append(f"{manifest.MANIFEST} changed")
    damage += _edited(provenance)
    after = _marks_or_none(step.parent, names)
    whole = before is not None and before == after and not damage
    return Found(f"damaged:{manifest.files_digest(found)}" if damage else outcome, provenance, damage,
                 before if whole else None)  # fmt: skip


def _edited(provenance: Mapping[str, Any]) -> list[str]:
    text = json.dumps(provenance.get("ingredients"), sort_keys=True)
    return [] if digest_bytes(text.encode()) == provenance.get("key") else ["its provenance changed"]


def _at_marker(step: Step, key: str) -> Look:
    try:
        if step.unwritten:
            text = json.dumps(step.unwritten)
        else:
            with open(step.marker, encoding="utf-8") as file:
                text = file.read()
        found = json.loads(text)
        outcome = f"{found['verdict']}:{digest_bytes(text.encode())}"
        if found["verdict"] == "skipped" and found["key"] == key:
            return Look(outcome)
        return Look(outcome, (Reason(f"{found['verdict']} last time", "; ".join(map(str, found["reasons"]))),))
    except (OSError, ValueError, KeyError, TypeError):
        return Look("unknown", (Reason("marker unreadable", step.marker),))


def as_noted(step: Step, watch: Iterable[list[Any]]) -> bool:
    """Whether every file and folder of a receipt still has the stamp that was noted, and that can be relied on."""
    if not digests.CTIME_TELLS:
        return False
    parent, stat = f"{step.parent}/", os.stat
    try:
        for name, inode, size, mtime, ctime in watch:
            now = stat(name if step.world and os.path.isabs(name) else parent + name)
            if now.st_ctime_ns != ctime or now.st_mtime_ns != mtime or now.st_size != size or now.st_ino != inode:
                return False
    except (OSError, TypeError):
        return False
    return True


def _of_world(step: Step, marks: dict[str, Stamp] | None) -> tuple[dict[str, Stamp] | None, str | None]:
    """The stamps with those of the world's files, if all stayed as they were meanwhile; and what no longer holds."""
    assert step.world
    try:
        with open(step.output, encoding="utf-8") as file:
            result = json.load(file)
        names = list(step.world.files(result))
        before = _marks_or_none(step.parent, names)
        step.engine.digests.settle(before.values() if before else ())
        gone = step.world.holds(result, step.engine.digests.of)
        same = before is not None and before == _marks_or_none(step.parent, names)
    except (OSError, ValueError, KeyError, TypeError, IngotError) as error:
        return None, _said(error)
    return ({**marks, **before} if marks is not None and before is not None and same else None), gone


def _marks(parent: str, names: Iterable[str]) -> dict[str, Stamp]:
    return {name: stamp(os.stat(os.path.join(parent, name))) for name in names}


def _marks_or_none(parent: str, names: Iterable[str]) -> dict[str, Stamp] | None:
    try:
        return _marks(parent, names)
    except OSError:
        return None


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'the file system'}: {error.strerror or error}"
    return str(error)


def _parents(file: str) -> list[str]:
    parts = file.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]

"""What is under an output's name: of which key it is, whether it is what was published, and the stamps that show so."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from scripts.common import json_files, manifest, moving
from scripts.common.errors import IngotError
from scripts.common.hashes import digest_bytes, digest_file
from scripts.common.os_errors import ours
from scripts.engine import digests as _digests
from scripts.engine import removed
from scripts.engine.digests import Digests, stamp
from scripts.engine.state import Stamp
from scripts.engine.step import Step


@dataclass(frozen=True)
class Output:
    """An output as it was found: a digest of it, what it was made from, how it differs from what was published.

    `parts` are digests of the step's parts, by name; of a damaged output there are none.
    `stamps` are those of each file and folder of it, None where it changed while it was read or is damaged.
    """

    outcome: str
    provenance: Mapping[str, Any]
    damage: list[str]
    stamps: dict[str, Stamp] | None
    parts: Mapping[str, str] = field(default_factory=dict)


def read(step: Step, digests: Digests) -> Output | None:
    """An output as it is; None without one that Ingot published."""
    return _read_result(step, digests) if step.is_result else _read_artifact(step, digests)


def recorded_key(step: Step) -> str | None:
    """The key of the output that is there, by its provenance."""
    try:
        return str(json_files.read(_provenance_of(step))["key"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def settle(step: Step) -> None:
    """End the publishing of a result that was cut short; only by whoever holds the artifact's lock."""
    if not step.is_result or not os.path.exists(step.announced):
        return
    if _provenance_of(step) == step.announced:
        moving.move(Path(step.announced), Path(step.provenance))
    else:
        os.unlink(step.announced)


def is_untouched(step: Step, stamps: Iterable[tuple[str, int, int, int, int]]) -> bool:
    """Whether every file and folder of a receipt still has the stamp that was noted, and that can be relied on."""
    if not _digests.CTIME_TELLS:
        return False
    parent, stat, absolute = f"{step.parent}/", os.stat, step.external_state is not None
    try:
        for name, inode, size, mtime, ctime in stamps:
            now = stat(name if absolute and os.path.isabs(name) else parent + name)
            if now.st_ctime_ns != ctime or now.st_mtime_ns != mtime or now.st_size != size or now.st_ino != inode:
                return False
    except (OSError, TypeError):
        return False
    return True


def external_state(step: Step, digests: Digests) -> tuple[dict[str, Stamp] | None, str | None]:
    """The stamps of the files that show it, if all stayed as they were meanwhile; and what no longer holds, if so."""
    assert step.external_state
    try:
        result = json_files.read(step.output)
        names = list(step.external_state.files(result))
        before = _stamps_or_none(step.parent, names)
        digests.wait_until_edits_show(before.values() if before else ())
        gone = step.external_state.holds(result, digests.of)
        same = before is not None and before == _stamps_or_none(step.parent, names)
    except (OSError, ValueError, KeyError, TypeError, IngotError) as error:
        return None, describe(error)
    return (before if same else None), gone


def remarks(step: Step) -> list[str]:
    """What a result says of the outside that is worth telling although it is as it should be."""
    if step.external_state is None:
        return []
    try:
        return list(step.external_state.remarks(json_files.read(step.output)))
    except (OSError, ValueError, KeyError, TypeError, IngotError):
        return []


def describe(error: Exception) -> str:
    """An error as one line."""
    return str(ours(error) if isinstance(error, OSError) else error)


def _provenance_of(step: Step) -> str:
    """Where it is written what its output was made from: of a result the one file of two that names its digest."""
    if step.is_result and os.path.exists(step.announced):  # its publishing ended between the two moves, or is there now
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if json_files.read(step.announced)["output"] == digest_file(step.output):
                return step.announced
    return step.provenance


def _read_result(step: Step, digests: Digests) -> Output | None:
    file = _provenance_of(step)
    found = _read_result_of(step, file, digests)
    while (found is None or found.damage) and (now := _provenance_of(step)) != file:  # another build published it
        file, found = now, _read_result_of(step, now, digests)
    return found


def _read_result_of(step: Step, file: str, digests: Digests) -> Output | None:
    """A result whose provenance is in this file."""
    names = [step.base, os.path.relpath(file, step.parent)]
    try:
        before = _stamps(step.parent, names)
        digests.wait_until_edits_show(before.values())
        outcome = digests.of(str(step.output))
        provenance = json_files.read(file)
        after = _stamps(step.parent, names)
    except (OSError, ValueError):
        return None
    if not isinstance(provenance, dict):
        return None
    damage = [] if provenance.get("output") == outcome else [f"{step.base} changed"]
    damage += _edited(provenance)
    return Output(outcome, provenance, damage, after if after == before else None)


def _read_artifact(step: Step, digests: Digests) -> Output | None:
    gone = removed.absent(step)
    found = _read_without(step, gone, digests)
    while found and found.damage and (now := removed.absent(step)) != gone:  # another build removed files meanwhile
        gone, found = now, _read_without(step, now, digests)
    return found


def _read_without(step: Step, gone: Collection[str], digests: Digests) -> Output | None:
    """An artifact some of whose files may be absent."""
    folder = str(step.output)
    listed = manifest.read(folder)
    if listed is None:
        return None
    files, provenance = listed
    folders = {step.base} | {f"{step.base}/{part}" for file in files for part in _parents(file)}
    own = (manifest.MANIFEST, manifest.PROVENANCE)
    names = [*sorted(folders), *(f"{step.base}/{file}" for file in (*files, *own) if file not in gone)]
    # Stamps first, and again at last: what is added or edited while we read must not get a receipt.
    before = _stamps_or_none(step.parent, names)
    digests.wait_until_edits_show(before.values() if before else ())
    try:
        found = manifest.scan(folder, digests.of)
    except OSError as error:
        where = os.path.relpath(error.filename, folder) if error.filename else folder
        return Output(f"damaged:{describe(error)}", provenance, [f"{where} {error.strerror}"], None)
    found |= {name: files[name] for name in gone if name in files}
    damage = manifest.differences(files, found)
    outcome = manifest.files_digest(files)
    if provenance.get("output", outcome) != outcome:
        damage.append(f"{manifest.MANIFEST} changed")
    damage += _edited(provenance)
    after = _stamps_or_none(step.parent, names)
    whole = before is not None and before == after and not damage
    if damage:
        return Output(f"damaged:{manifest.files_digest(found)}", provenance, damage, None)
    parts = {name: manifest.files_digest(_part(files, patterns)) for name, patterns in step.parts.items()}
    return Output(outcome, provenance, damage, before if whole else None, parts)


def _part(files: manifest.Files, patterns: Iterable[str]) -> manifest.Files:
    """The files whose paths fit one of the patterns, and none of those with a "!" in front."""
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    left_out = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return {
        name: file
        for name, file in files.items()
        if any(fnmatchcase(name, one) for one in wanted) and not any(fnmatchcase(name, one) for one in left_out)
    }


def _edited(provenance: Mapping[str, Any]) -> list[str]:
    text = json.dumps(provenance.get("ingredients"), sort_keys=True)
    return [] if digest_bytes(text.encode()) == provenance.get("key") else ["its provenance changed"]


def _stamps(parent: str, names: Iterable[str]) -> dict[str, Stamp]:
    return {name: stamp(os.stat(os.path.join(parent, name))) for name in names}


def _stamps_or_none(parent: str, names: Iterable[str]) -> dict[str, Stamp] | None:
    try:
        return _stamps(parent, names)
    except OSError:
        return None


def _parents(file: str) -> list[str]:
    parts = file.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]

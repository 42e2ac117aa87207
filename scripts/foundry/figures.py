"""What a build measured of a version that it deployed, kept beside it: so a later version can be told from it.

The results in a build's folder are about the newest package alone. What is kept here lies in the version's own folder
of the cache, names the files that it is about, and goes with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from scripts.common import json_files, manifest
from scripts.foundry.marks import MEASURED, note_of
from scripts.results import base, measured
from scripts.results.bench import Bench
from scripts.results.domain import Domain
from scripts.results.foundry import Figures
from scripts.results.quality import Advice, Quality

T = TypeVar("T", Quality, Domain, Bench)


def kept(folder: Path) -> Figures | None:
    """What was measured of the files that are in a folder now; None where nothing was, or it can't be read."""
    found = note_of(folder, MEASURED)
    try:
        return msgspec.convert(found["figures"], Figures) if found else None
    except (KeyError, msgspec.ValidationError):
        return None


def keep(folder: Path, place: Path) -> None:
    """Keep, beside the model in `folder`, what the results in `place` say of it. Raises `OSError` where the cache can't
    be written.
    """
    listed = manifest.load(str(folder))
    files = listed["files"] if listed else {}
    told = {"files": manifest.files_digest(files), "figures": base.plain(_of(place, files))}
    if note_of(folder, MEASURED) != told:
        json_files.write(folder / MEASURED, told)


def _of(place: Path, files: manifest.Files) -> Figures:
    quality, domain, bench = (
        _about(place, "quality", Quality),
        _about(place, "domain", Domain),
        _about(place, "bench", Bench),
    )
    advice = base.find(place.parent / "recommend.json", Advice)
    judged = advice.precisions.get(place.name) if advice else None
    return Figures(
        verdict=judged.verdict if judged else "skipped",
        size_bytes=sum(int(file["size"]) for name, file in files.items() if ".onnx" in name) or None,
        quality=quality and replace(quality, texts={}, changes={}),
        domain=domain and replace(domain, cases=[replace(case, text="", asked="") for case in domain.cases]),
        performance=bench and replace(bench, samples={}),
    )


def _about(place: Path, name: str, kind: type[T]) -> T | None:
    """A result of the package that is there; none of an earlier one."""
    result = place / f"{name}.json"
    found = None if base.marker_of(result).exists() else base.find(result, kind)
    return found if getattr(found, "package", None) in (None, measured.digest(place / "package")) else None

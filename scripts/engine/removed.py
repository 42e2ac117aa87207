"""Large files of an output that are removed once all that reads them is made, and made again when they are needed.

The manifest stays and says what they were, so the output has its digest as before, and nothing is stale that was made
from it. A note in `.ingot/` beside the output, written first, names the files that may be absent; whatever dies between
the two leaves an output that is whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from scripts.common import json_files, manifest
from scripts.engine import publish, tree
from scripts.engine.digests import Digests
from scripts.engine.step import Part, Step, flat


@dataclass(frozen=True)
class Removal:
    """Files of `steps` that fit one of the `patterns` (`fnmatch`) are removed once all of `after` are current."""

    steps: tuple[Step, ...]
    patterns: tuple[str, ...]
    after: tuple[Step, ...]


def note_of(step: Step) -> str:
    """Where it is noted that files of its output may be absent."""
    return step.marker.removesuffix(".failed.json") + ".removed.json"


def allowed(step: Step) -> Sequence[str]:
    """The files of its output that may be absent."""
    try:
        names = json_files.read(note_of(step))["files"]
    except (OSError, ValueError, TypeError, KeyError):
        return ()
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else ()


def absent(step: Step) -> list[str]:
    """The files of its output that were removed, and are not there."""
    return [name for name in allowed(step) if not os.path.lexists(step.output / name)]


def needed(step: Step) -> list[Step]:
    """The steps whose output it needs whole, and is not."""
    given = [item.step if isinstance(item, Part) else item for _, item in flat(step.inputs)]
    return [item for item in dict.fromkeys(given) if isinstance(item, Step) and absent(item)]


def told(step: Step) -> list[str]:
    """What to say of an output that is not there as a whole."""
    return [f"{', '.join(names)} removed to save disk; made again when needed"] if (names := absent(step)) else []


def goes(step: Step, patterns: Sequence[str]) -> bool:
    """Whether a file of its output is there that fits; found out without a read."""
    if step.is_result or not os.path.isdir(step.output):
        return False
    return any(_fits(name, patterns) for name, _ in manifest.walk(str(step.output)))


def remove(step: Step, patterns: Sequence[str], digests: Digests, work: Path) -> int:
    """Remove the files of a step's output that fit; returns the bytes. `work`: a file to write the note with."""
    listed, size = manifest.read(str(step.output)), 0
    names = [name for name in listed[0] if _fits(name, patterns)] if listed else []
    there = [name for name in names if os.path.lexists(step.output / name)]
    if there:
        publish.publish_json({"step": step.name, "files": names}, Path(note_of(step)), work)
    for name in there:
        size += (step.output / name).lstat().st_size
        tree.remove(str(step.output / name), digests)
    return size


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

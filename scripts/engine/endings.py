"""How a run of a step ended: what it cost, or why it failed; the same wherever it ran."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from scripts.common import json_files

#: Bytes on a disk below which a child had no room for its reason.
_NO_ROOM = 1 << 20


class Made(NamedTuple):
    """Why a run failed (none: it did not), its wall seconds, the peak resident bytes of its process tree.

    `in_store`: its output is in the shared store, and not here; `where`: words to tell where it ran, if not here.
    """

    reason: str | None
    seconds: float = 0.0
    peak_rss: int = 0
    in_store: bool = False
    where: str = ""


def why_failed(build: Path, what: str, work: Path, code: int, out: Path) -> str | None:
    """Why `what`, a stage and its verb, made no output; None where it did. `build`: the folder of all that is built."""
    if code == 0:
        return why_not_an_output(out, out.name, what)
    try:
        return str(json_files.read(work / "reason.json")["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        # Then the child had no room for its reason either, nor for its log.
        full = shutil.disk_usage(work).free < _NO_ROOM
        return f"{what} {how}; " + (f"the disk of {build} is full" if full else "its log says more")


def why_not_an_output(out: Path, name: str, what: str) -> str | None:
    """Why what `what` left is no output of that name: a JSON object, or a folder that is not empty."""
    is_result = name.endswith(".json")
    if not (out.is_file() if is_result else out.is_dir()):
        return f"{what} ended well but made no {name}"
    if is_result:
        try:
            fine = isinstance(json_files.read(out), dict)
        except (OSError, ValueError):
            fine = False
        return None if fine else f"{what} wrote a {name} that is not a JSON object"
    return None if any(out.iterdir()) else f"{what} ended well but left {name} empty"

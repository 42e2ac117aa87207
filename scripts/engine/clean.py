"""`doit clean`: take back what a step did outside `build/`, then remove what it made, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common import json_files, process
from scripts.common.errors import IngotError
from scripts.engine import removed, tree
from scripts.engine.session import Session
from scripts.engine.step import Step

_UNDO_SECONDS = 600


def clean(session: Session, step: Step, dryrun: bool) -> None:
    """Remove a step's output and notes, or with `dryrun` say what would go. Raises `IngotError` where that can't be."""
    paths = [
        str(step.output),
        *([step.provenance, step.announced] if step.is_result else []),
        step.marker,
        removed.note_of(step),
        str(session.log_of(step)),
    ]
    gone = [path for path in paths if os.path.lexists(path)]
    for path in gone:
        session.progress.note(f"{step.name}: {'would remove' if dryrun else 'removed'} {path}")
    if dryrun:
        return
    if step.undo and step.output.exists():
        words = step.undo(_recorded(step))
        if words and process.call([sys.executable, "-m", *words], seconds=_UNDO_SECONDS):
            raise IngotError(step.output, "what it records could not be taken back", "See above; nothing was removed")
    for path in gone:
        tree.remove(path, session.digests)
        if os.path.lexists(path):
            raise IngotError(path, "could not be removed", "See who owns it, and whether its folder can be written")
    session.records.drop_receipt(step.name)
    session.status.forget(step)
    for folder in (Path(step.marker).parent, *step.output.parents):
        if folder == session.build or (folder.is_dir() and any(folder.iterdir())):
            break
        if folder.is_dir():
            folder.rmdir()


def _recorded(step: Step) -> Mapping[str, Any]:
    """What a step's result says; nothing where it is none, and so nothing can be taken back."""
    try:
        value = json_files.read(step.output)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}

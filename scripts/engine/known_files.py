"""Files that are on this machine already, by their digest: what is fetched of a shared store need not bring them."""

from __future__ import annotations

import os

from scripts.common import manifest
from scripts.engine.session import Session
from scripts.engine.step import Step


def of_user(session: Session, step: Step) -> dict[str, str]:
    """Digest → path of the user's own files that a step reads."""
    found = dict[str, str]()
    for _, flag, item, _ in step.read:
        if not isinstance(item, Step):
            given = session.status.user_files.of(str(item), step.belongs.get(flag))
            files = {"": given.digest} if given.files is None else given.files
            found |= {digest: os.path.join(str(item), name) if name else str(item) for name, digest in files.items()}
    return found


def of_inputs(step: Step) -> dict[str, str]:
    """Digest → path of files of the outputs that it reads: its own may be the same, and need not be fetched."""
    found = dict[str, str]()
    for upstream in step.upstream:
        listed = None if upstream.is_result else manifest.read(str(upstream.output))
        for name, file in (listed[0] if listed else {}).items():
            path = f"{upstream.output}/{name}"
            if os.path.exists(path) and not os.path.islink(path):  # a link leads to the user's own
                found[str(file["blake3"])] = path
    return found

"""Environment variables of the child that runs a step, wherever it runs."""

from __future__ import annotations

from pathlib import Path

from scripts.common.childenv import CHILD_LOCK, LINK_JOURNAL, REASON_FILE
from scripts.common.quiet import OFFLINE, QUIET

#: How a stage works: the same whatever its hashes, and so that it leaves the processor to others where it waits.
_STEADY = {
    "PYTHONHASHSEED": "0",
    # Waiting OpenMP threads sleep: spinning ones made a step three times slower on a busy machine.
    "OMP_WAIT_POLICY": "passive",
}
#: Where a program looks for the user's home folder.
HOMES = ("HOME", "USERPROFILE")


def environment_apart(home: Path) -> dict[str, str]:
    """For a child that needs neither network nor home: `home` is a folder that stands for it."""
    return QUIET | _STEADY | dict.fromkeys(HOMES, str(home)) | OFFLINE


def private_to(work: Path) -> dict[str, str]:
    """By which the child of one run, with `work` as its folder, speaks with whoever started it."""
    return {
        REASON_FILE: str(work / "reason.json"), LINK_JOURNAL: str(work / "links.jsonl"),
        CHILD_LOCK: f"{work}.child.lock",
    }  # fmt: skip

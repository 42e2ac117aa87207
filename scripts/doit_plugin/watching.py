"""`doit watch`: builds whenever weights, adapters or configuration have changed and settled, and keeps each report.

watchfiles 1.3.0 tells of changes (`pip install -e '.[team]'`). Each build is a doit of its own, as a person
would start it, so that an edit of the configuration counts and a build that fails ends nothing.
"""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from scripts.common import json_files
from scripts.common.handing_over import hand_over
from scripts.common.visible import line
from scripts.doit_plugin.commands import SessionCommand, flag
from scripts.doit_plugin.variables import typed
from scripts.engine.step import Step

#: Reports of a watch, each in a folder by its time (UTC), below the build folder.
HISTORY = "history"
_KEPT = ("report.json", "report.md", "index.html", "junit.xml")
#: What a doit ends with that somebody stopped.
_STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)


class Watch(SessionCommand):
    """`doit watch`: ends with Ctrl-C."""

    doc_purpose = "build again whenever weights, adapters or configuration change"
    doc_usage = "[TASK ...]"
    doc_description = (
        "Waits until what changed is left alone for a while, then builds as `doit` does. Each report is kept in "
        "history/ of the build folder. Ctrl-C ends it."
    )
    cmd_options = (flag("settle", float, 5.0, "seconds without a change before it builds [default: %(default)s]"),)

    def _execute(self, settle: float, pos_args: list[str]) -> int:
        if not 0.1 <= settle <= 3600:
            raise InvalidCommand(f"--settle {settle:g}: expected seconds from 0.1 to 3600")
        try:
            import watchfiles
        except ImportError:
            raise InvalidCommand("doit watch needs watchfiles: pip install -e '.[team]'") from None
        words = [*typed("config", "build"), *pos_args]
        told = self.loader.load_doit_config().get("deployed") or {}
        try:
            while True:
                places = _places(self.session.steps.values(), told.get("config"))
                changes = _settled(watchfiles.watch, places, str(self.session.build), settle)
                next(changes)  # it watches from before the build on: no change is missed
                if _doit("run", *words) in _STOPPED:
                    return 0
                _keep(self.session.build)
                print(f"watching {len(places)} places; Ctrl-C ends it", flush=True)
                changed = next(changes)
                named = ", ".join(sorted(changed)[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
                print(f"changed: {line(named)}", flush=True)
                if any(path.endswith(".toml") for path in changed):  # what is to be watched may be other places now
                    return _doit("watch", f"--settle={settle:g}", *words)
        except KeyboardInterrupt:
            return 0


def _places(steps: Any, config: str | None) -> list[str]:
    """The user's own files and folders that steps read, and the configuration; a missing one by where it would be."""
    found = {str(item) for step in steps for _, _, item, _ in step.read if not isinstance(item, Step)}
    found |= {config} if config else set()
    there = {path if os.path.exists(path) else os.path.dirname(path) for path in found}
    return sorted(path for path in there if os.path.exists(path))


def _settled(watch: Any, places: Sequence[str], build: str, settle: float) -> Iterator[set[str]]:
    """An empty set, once it watches; then each set of paths that changed and were left alone for so many seconds."""
    pending, watches = set[str](), False
    for changes in watch(
        *places, watch_filter=None, rust_timeout=int(settle * 1000), yield_on_timeout=True, debounce=200
    ):
        pending |= {path for _, path in changes if not path.startswith(build + os.sep)}
        if not watches:
            watches = True
            yield set()
        elif pending and not changes:
            yield pending
            pending = set()


def _doit(*words: str) -> int:
    """Run doit as a person starts it; its exit code."""
    return hand_over([sys.executable, "-m", "doit", *words])


def _keep(build: Path) -> None:
    """Copy the report into the history, unless it is there as it is."""
    report, history = build / "report", build / HISTORY
    try:
        made = json_files.read_bytes(report / "report.json")
    except (OSError, ValueError):
        return
    before = sorted(history.glob("*/report.json"))
    if before and before[-1].read_bytes() == made:
        return
    folder = history / datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder.mkdir(parents=True)
    for name in _KEPT:
        if (report / name).is_file():
            shutil.copyfile(report / name, folder / name)
    print(f"kept the report in {folder}", flush=True)

"""What doit prints while it runs: a line for each step that did something, a count of those that need not."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.process import is_interrupted
from scripts.engine.session import Session
from scripts.engine.step import Step

#: What doit says of a command, which is the whole command line.
_COMMAND_FAILED = re.compile(r"^Command failed: .* returned (-?\d+)$", re.DOTALL)


class Reporter:
    """doit calls these methods, from several threads with `-n`. It takes an instance, made in DOIT_CONFIG, as it is."""

    desc = "one line for each step that did something"

    def __init__(self, session: Session) -> None:
        self._session, self._progress = session, session.progress
        self._started = time.monotonic()
        self._counts = {"built": 0, "restored": 0, "kept": 0, "done": 0, "up to date": 0, "skipped": 0, "failed": 0}
        self._selected: list[str] = []
        self._errors: list[str] = []

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: Sequence[str]) -> None:
        """Before the run."""
        del tasks
        self._started = time.monotonic()
        self._selected = list(selected_tasks)
        with contextlib.suppress(OSError):  # a build that can't be written can still be up to date
            self._session.sweep()

    def get_status(self, task: Any) -> None:
        """Before a task is looked at."""

    def execute_task(self, task: Any) -> None:
        """Before a task runs."""
        if task.name in self._session.steps:  # what a plain task prints goes to the terminal as it is
            self._progress.begin(task.name)

    def add_success(self, task: Any) -> None:
        """A task ran; for a step this may mean that it failed and noted so."""
        self._progress.end(task.name)
        if not task.actions:
            return
        ended = self._session.ended.get(task.name, "done")
        kind = ended.split(":")[0].split(" ")[0]
        self._counts[kind] += 1
        mark, colour = {"failed": ("✗", "bad"), "skipped": ("–", "dim")}.get(kind, ("✓", "good"))
        self._progress.note(f"{mark} {task.name:<28} {ended}", colour)

    def add_failure(self, task: Any, fail: Any) -> None:
        """A task of doit's plain kind failed, or Ingot itself has a bug."""
        self._progress.end(task.name)
        self._counts["failed"] += 1
        # doit's own text holds the whole command line.
        why = re.sub(
            r"^Command failed: .* returned (-?\d+)$", r"ended with exit code \1", fail.get_msg(), flags=re.DOTALL
        )
        self._progress.note(f"✗ {task.name}: {why}", "bad")
        self._errors.append(fail.get_err() if hasattr(fail, "get_err") else "")

    def skip_uptodate(self, task: Any) -> None:
        """A task need not run."""
        if task.actions:
            step = self._session.steps.get(task.name)
            skipped = step is not None and self._session.status.of(step).outcome.startswith("skipped:")
            self._counts["skipped" if skipped else "up to date"] += 1

    def skip_ignore(self, task: Any) -> None:
        """A task that the user told doit to ignore."""
        self._progress.note(f"! {task.name} is ignored (doit forget {task.name} ends that)", "dim")

    def cleanup_error(self, exception: Any) -> None:
        """A teardown failed."""
        self._progress.note(exception.get_msg(), "bad")

    def runtime_error(self, msg: str) -> None:
        """doit itself can't go on."""
        print(msg, file=sys.stderr)

    def teardown_task(self, task: Any) -> None:
        """Before a teardown."""

    def complete_run(self) -> None:
        """After the run: what was to be shown, and the count."""
        if is_interrupted():
            return
        for name in self._selected:
            if text := _shown(self._session.steps.get(name)):
                self._progress.note("\n" + text)
        counted = ", ".join(f"{count} {what}" for what, count in self._counts.items() if count) or "nothing to do"
        bad = "bad" if self._counts["failed"] else None
        self._progress.note(f"{counted}, in {time.monotonic() - self._started:.1f} s", bad)


def _shown(step: Step | None) -> str | None:
    """The text that a run prints at its end; None where there is none."""
    file = step.output / step.shows if step and step.shows else None
    return file.read_text(encoding="utf-8").rstrip() if file and file.is_file() else None

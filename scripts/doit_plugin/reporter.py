"""What doit prints while it runs: a line for each step that did something, a count of those that need not."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common import json_files, terminal, visible
from scripts.common.process import is_interrupted
from scripts.engine.session import Session
from scripts.engine.step import Step

#: Verdicts of which there is no output, or an old one.
_NOTHING_MADE = (None, "failed", "skipped")
#: Up to so many outputs are named at the end of a run.
_NAMED = 8


class Reporter:
    """doit calls these methods, from several threads with `-n`. It takes an instance, made in DOIT_CONFIG, as it is."""

    desc = "one line for each step that did something"

    def __init__(self, session: Session) -> None:
        self._session, self._progress = session, session.progress
        self._started = time.monotonic()
        kinds = ("built", "restored", "fetched", "kept", "done", "up to date", "skipped", "failed")
        self._counts = dict.fromkeys(kinds, 0)
        self._selected: list[str] = []
        self._forms: list[tuple[Step, str]] = []
        self._failed: list[str] = []
        self._refused: list[str] = []
        self._errors: list[str] = []
        self._running, self._settled = set[str](), set[str]()

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: Sequence[str]) -> None:
        """Before the run."""
        self._started = time.monotonic()
        for name in selected_tasks:  # a group stands for its tasks
            below = [sub for sub in tasks[name].task_dep if tasks[sub].subtask_of == name]
            self._selected += below if tasks[name].has_subtask else [name]
        for step in filter(None, map(self._session.steps.get, self._selected)):
            given = (tasks[step.name].options or {}) if step.forms else {}
            self._forms += [(step, form) for form in step.forms if given.get(form)]
        with contextlib.suppress(OSError):  # a build that can't be written can still be up to date
            self._session.sweep()

    def report_settled(self, steps: Sequence[Step], wanted: Sequence[Step]) -> None:
        """All of a run whose steps are up to date; `wanted` are those that were asked for."""
        self._selected = [step.name for step in wanted]
        with contextlib.suppress(OSError):
            self._session.sweep()
        for step in steps:
            self._count_current(step)
        self.complete_run()

    def get_status(self, task: Any) -> None:
        """Before a task is found up to date or not."""

    def execute_task(self, task: Any) -> None:
        """Before a task runs."""
        self._running.add(task.name)
        if task.name in self._session.steps:  # what a plain task prints goes to the terminal as it is
            self._progress.begin(task.name)

    def add_success(self, task: Any) -> None:
        """A task ran; for a step this may mean that it failed and noted so."""
        self._progress.end(task.name)
        self._settle(task.name)
        if not task.actions:
            return
        ended = self._session.ended.get(task.name, "done")
        kind = ended.split(":")[0].split(" ")[0]
        self._counts[kind] += 1
        if kind == "failed":
            self._failed.append(f"{task.name}: {ended.removeprefix('failed: ')}")
        elif refusal := _refusal(self._session.steps.get(task.name)):
            self._refused.append(f"{task.name}: {refusal}")
            ended += ", refused"
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
        self._settle(task.name)
        if task.actions:
            self._count_current(self._session.steps.get(task.name))

    def _count_current(self, step: Step | None) -> None:
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
        print(visible.visible(msg), file=sys.stderr)

    def teardown_task(self, task: Any) -> None:
        """Before a teardown."""

    def complete_run(self) -> None:
        """After the run: what stopped and why, what was to be shown or where it is, and the count."""
        if is_interrupted() or self._session.stopped:
            return
        self._make_room(None)
        steps = [step for name in self._selected if (step := self._session.steps.get(name))]
        shown = [text for step in steps if (text := _shown(step))]
        # By now the line of a failure may have scrolled away.
        for line in self._failed if shown else ():
            self._progress.note(f"failed   {line}", "bad")
        for line in self._refused:
            self._progress.note(f"refused  {line}", "bad")
        for text in shown:
            self._progress.note("\n" + text)
        for step in steps if len(steps) <= _NAMED else ():
            if not step.shows and self._session.status.verdict(step) not in _NOTHING_MADE:
                self._progress.note(f"  {step.name:<28} {_typed(step.output)}")
        for step, form in self._forms:
            if (file := step.output / step.forms[form]).is_file():
                self._progress.note(f"{form}: {_typed(file)}")
        counted = ", ".join(f"{count} {what}" for what, count in self._counts.items() if count) or "nothing to do"
        bad = "bad" if self._counts["failed"] else None
        self._progress.note(f"{counted}, in {time.monotonic() - self._started:.1f} s", bad)

    def _settle(self, name: str) -> None:
        """The run is done with a step: what nothing needs any more can go."""
        self._running.discard(name)
        self._settled.add(name)
        self._make_room(name)

    def _make_room(self, settled: str | None) -> None:
        """Once the run is done with one step; None: with all."""
        session = self._session
        if removals := session.removals if settled is None else session.removals_of.get(settled):
            from scripts.engine import disk

            disk.make_room(session, removals, None if settled is None else self._settled, self._running)


def _shown(step: Step) -> str | None:
    """The text that a run prints at its end; None where there is none. `table.80.txt` is `table.txt` for 80 columns."""
    file = step.output / step.shows if step.shows else None
    if file is None or not file.is_file():
        return None
    text, columns = file.read_text(encoding="utf-8").rstrip(), terminal.columns(sys.stdout)
    if columns and columns < max(map(len, text.splitlines()), default=0):
        for narrower in file.parent.glob(f"{file.stem}.*{file.suffix}"):
            return narrower.read_text(encoding="utf-8").rstrip()
    return text


def _typed(path: Path) -> str:
    """A path as one would type it here."""
    return str(path).removeprefix(os.getcwd() + os.sep)


def _refusal(step: Step | None) -> str | None:
    """Why the result of a step is a refusal; None where it is not one."""
    if step is None or not step.is_result:
        return None
    try:
        result = json_files.read(step.output)
        if result["verdict"] != "refused":
            return None
        return visible.line("; ".join(result["reasons"])) or "no reason given"
    except (OSError, ValueError, KeyError, TypeError):  # a plain result, without a verdict
        return None

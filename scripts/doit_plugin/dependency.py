"""doit's own hooks: how it asks whether a file changed, and where it keeps what it knows.

For steps, keys decide and manifests remember; doit is told that its own records agree. Tasks that a user adds to
`dodo.py` in doit's plain way are served as doit serves them, but by content and with each task committed at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from typing import Any

from doit.dependency import FileChangedChecker, JSONCodec
from doit.exceptions import InvalidDodoFile

from scripts.common.errors import IngotError
from scripts.engine.session import Session

#: What doit finds as the recorded state of a step's dependency.
_KEY_DECIDES = "key decides"
#: What doit records of a task beside the states of its dependencies.
_OF_DOIT = ("_values_:", "result:", "checker:", "deps:", "ignore:")


class StepFile(str):
    """A path that a step declares to doit, as its file_dep or target: the step's key and status answer for it.

    A plain task's path is plain text, also where it means the same file, and is checked as doit does.
    """

    __slots__ = ()


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """In `dodo.py`: a mistake in the configuration is one line and exit code 3, not a traceback."""
    try:
        yield
    except IngotError as error:
        raise InvalidDodoFile(str(error)) from None


class Checker(FileChangedChecker):  # type: ignore[misc]
    """Files are compared by content; a file that a step makes is that step's business."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def exists(self, file_path: str) -> bool:
        """Asked for targets, after `uptodate`, by which a step has verified its own."""
        return isinstance(file_path, StepFile) or os.path.exists(file_path)

    def info(self, file_path: str) -> os.stat_result | None:
        """Status of a dependency; raises `OSError` where it is missing, unless a step answers for it.

        A step's own are not checked again, nor is what a plain task needs of a step, which may have failed.
        """
        return None if isinstance(file_path, StepFile) or file_path in self._made_by_steps else os.stat(file_path)

    def check_modified(self, file_path: str, file_stat: os.stat_result | None, state: str) -> bool:
        """Whether the content differs from the recorded digest."""
        return state != _KEY_DECIDES and state != self.get_state(file_path, None, file_stat)

    def get_state(self, dep: str, current_state: object, status: os.stat_result | None = None) -> str | None:
        """What to record of a dependency: its digest; "absent" where a step made nothing; of a step's own, nothing."""
        del current_state
        if isinstance(dep, StepFile):
            return None
        try:
            return self._session.digests.of(dep, status)
        except FileNotFoundError:
            return "absent"

    @functools.cached_property
    def _made_by_steps(self) -> set[str]:
        return {str(path) for step in self._session.steps.values() for path in (step.target, step.output)}


class Records(JSONCodec):  # type: ignore[misc]
    """doit's codec of task records, with the session that they belong to."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session


class Backend:
    """doit's task records, in the state file, each written at once."""

    desc = "Ingot's: durable after each task; steps are remembered by their own artifacts"

    def __init__(self, name: str, codec: object, module_name: str | None = None) -> None:
        """Doit calls this with the `dep_file` and `codec_cls` of DOIT_CONFIG."""
        del module_name
        if not isinstance(codec, Records):
            remedy = "Write DOIT_CONFIG = Tasks(session).config(…), see scripts/doit_plugin/tasks.py"
            raise InvalidDodoFile(str(IngotError("DOIT_CONFIG", 'names backend "ingot" without a session', remedy)))
        self.name = name
        self._session, self._state = codec.session, codec.session.state

    @functools.cached_property
    def _known(self) -> dict[str, dict[str, Any]]:
        return self._state.values("task", dict[str, Any])

    def get(self, task_id: str, dependency: str) -> Any:
        """One record; for a step's own dependencies, that the key decides."""
        if task_id in self._session.steps and dependency not in _OF_DOIT:
            return _KEY_DECIDES
        known = self._known.get(task_id)
        return known.get(dependency) if known else None

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Record, and commit."""
        if task_id in self._session.steps and dependency != "ignore:":
            return
        self._known.setdefault(task_id, {})[dependency] = value
        self._state.put("task", task_id, json.dumps(self._known[task_id]))

    def in_(self, task_id: str) -> bool:
        """Whether anything is recorded of a task."""
        return task_id in self._session.steps or task_id in self._known

    def remove(self, task_id: str) -> None:
        """Forget a task. Of a step only marks of the user's: doit also calls this for what failed.

        `doit forget` has a step built again, see `scripts.doit_plugin.overrides`.
        """
        if self._known.pop(task_id, None) is not None:
            self._state.drop("task", task_id)

    def remove_all(self) -> None:
        """Forget every task."""
        for task_id in list(self._known):
            self.remove(task_id)

    def dump(self) -> None:
        """Nothing to do: all is written."""

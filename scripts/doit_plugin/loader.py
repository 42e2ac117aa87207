"""How doit loads `dodo.py`, and what is checked before any command runs: the file, variables and names of tasks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from doit import doit_cmd
from doit.cmd_base import DodoTaskLoader
from doit.exceptions import InvalidDodoFile

from scripts.common.imports import leave_out_address_grammar
from scripts.doit_plugin.usage import check_variables


class Loader(DodoTaskLoader):  # type: ignore[misc]
    """doit makes one, by its name in pyproject.toml, before it looks at the command line."""

    #: Variables that the command at hand takes, besides those that `dodo.py` asks for.
    variables: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__()
        leave_out_address_grammar()  # checks of cases and schemas import jsonschema
        # doit answers `--help` and `--version` itself and asks no plugin, and it stumbles over an empty word.
        doit_cmd.Help = _help
        doit_cmd.DoitMain.print_version = staticmethod(_print_version)
        doit_cmd.DoitMain.process_args = _process_args

    def setup(self, opt_values: Any) -> None:
        """Import `dodo.py`. Raises `InvalidDodoFile` where it can't be, or did not ask for a variable that is given."""
        file = opt_values["dodoFile"]
        if not file.endswith(".py") or os.path.isdir(file):
            raise InvalidDodoFile(f"--file {file!r}: expected a Python file, such as dodo.py")
        doit_cmd._CMDLINE_VARS = given = _Given(doit_cmd._CMDLINE_VARS or {})
        try:
            super().setup(opt_values)
        finally:
            given.check(self.variables)

    def load_tasks(self, cmd: Any, pos_args: Sequence[str]) -> list[Any]:
        """Doit's tasks; none where the command needs none. Raises `InvalidCommand` where a name on the command line is
        not one of them.
        """
        if cmd.needs_no_tasks():
            return []
        tasks: list[Any] = super().load_tasks(cmd, pos_args)
        cmd.check_names(tasks, pos_args)
        return tasks


class _Given(dict[str, str]):
    """The variables of the command line, of which each must be one that `dodo.py` asks for."""

    def __init__(self, given: dict[str, str]) -> None:
        super().__init__(given)
        self._asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """`doit.get_var` calls this."""
        self._asked.add(name)
        return super().get(name, default)

    def check(self, more: Sequence[str]) -> None:
        """Raises `InvalidCommand`. `more` are variables of the command itself."""
        if self._asked:
            check_variables({*self._asked, *more}, self)


def _help(**given: Any) -> Any:
    from scripts.doit_plugin.help import Help  # only when it is asked for

    return Help(**given)


def _print_version() -> None:
    from scripts.doit_plugin.manual import version

    print(version())


_doits_process_args = doit_cmd.DoitMain.process_args


def _process_args(self: Any, words: Sequence[str]) -> Any:
    if "" in words:
        print("ERROR: the command line has an empty word in it; see: doit help", file=sys.stderr)
        raise SystemExit(3)
    return _doits_process_args(self, list(_attached(words)))


#: Options of `doit chat` that a text follows, and how it is attached to them.
_SAID = {"-m": "-m", "--message": "--message=", "-s": "-s", "--system": "--system="}


def _attached(words: Sequence[str]) -> Iterator[str]:
    """What is said to a model, attached to its option: else doit takes "-m a=b" for a variable."""
    rest = iter(words)
    for word in rest:
        if word in _SAID and "chat" in words:
            said = next(rest, None)
            yield word if said is None else _SAID[word] + said
        else:
            yield word

"""How a command line is read: help where it is asked for, and a mistake as one line that says what is meant instead."""

from __future__ import annotations

import fnmatch
import getopt
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from doit import doit_cmd
from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand

from scripts.common.machine import usable_cores


def nearest(word: str, words: Iterable[str]) -> str:
    """The sentence that offers the word that was probably meant; nothing where none is near."""
    import difflib  # only where something is misspelt

    near = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def check_variables(known: Iterable[str], given: Mapping[str, str] | None = None) -> None:
    """Raise `InvalidCommand` for a variable of the command line, or one `given`, that is not a known one."""
    names = sorted(known)
    for name, value in (doit_cmd._CMDLINE_VARS or {} if given is None else given).items():
        if name not in names:
            listed = ", ".join(f"{one}=" for one in names)
            raise InvalidCommand(
                f"{name}={value}: there is no such variable.{nearest(name, names)} There are: {listed}"
            )


def unknown_task(name: str, tasks: Mapping[str, Any], others: Iterable[str] = ()) -> InvalidCommand:
    """The error for a name that is neither a task nor, where a command may stand, one of `others`."""
    group = tasks.get(name.partition(":")[0])
    if ":" in name and group is not None and is_empty(group):
        return InvalidCommand(why_empty(group))
    wanted = "task" if not others else "command or task"
    return InvalidCommand(f"{name}: there is no such {wanted}.{nearest(name, (*others, *tasks))} See: doit list --all")


def is_empty(task: Any) -> bool:
    """Whether it is a group without a task in it, that says what it needs."""
    return bool(task.meta and task.meta.get("needs") and not task.task_dep)


def why_empty(task: Any) -> str:
    """What a group needs, where no model has it."""
    return f"{task.name}: no model has what it needs: {task.meta['needs']}"


def end_with_reader() -> None:
    """For commands that only print: `| head` ends them, and quietly."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def reworded(options: Sequence[Mapping[str, Any]], **texts: str) -> tuple[dict[str, Any], ...]:
    """doit's options, described as they act in a project of Ingot's."""
    return tuple({**option, "help": texts.get(option["name"], option.get("help", ""))} for option in options)


def how_many(text: str) -> int:
    """The type of `-n`: a number, or one a core. Raises `ValueError` as `at_least_one` does."""
    return usable_cores() if text == "auto" else at_least_one(text, or_else=", or auto")


def at_least_one(text: str, or_else: str = "") -> int:
    """The type of an option. Raises `ValueError`, which doit takes for a mistake on the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"expected a number from 1 on{or_else}, found {text!r}")
    return int(text)


class Usage(DoitCmdBase):  # type: ignore[misc]
    """What every command of a project of Ingot's does with its command line. Comes before doit's class."""

    #: What `dodo.py` says of doit's own records is for no command line to change.
    base_options = tuple({**option, "short": "", "long": ""} for option in DoitCmdBase.base_options)
    #: Whether what follows the options are names of tasks.
    names_tasks = True
    #: Whether doit takes it to be meant where no command is named.
    may_be_left_out = False

    def __init__(self, cmds: Any = None, **given: Any) -> None:
        self.commands = cmds
        super().__init__(cmds=cmds, **given)

    def parse_execute(self, in_args: Sequence[str]) -> int:
        """Doit calls this with what follows the command's name."""
        before = list(in_args[: list(in_args).index("--")] if "--" in in_args else in_args)
        if "-h" in before or "--help" in before:
            end_with_reader()
            print(self.help(), flush=True)
            return 0
        try:
            params, args = self.cmdparser.parse(list(in_args))
        except CmdParseError as error:
            raise CmdParseError(self._explained(error)) from None
        self.pdb = params.get("pdb", False)
        params.update(self.opt_vals)
        return self.execute(params, args) or 0

    def help(self) -> str:
        """What the command does, and its own options."""
        from scripts.doit_plugin.manual import of_command  # only when it is asked for

        return of_command(self)

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        try:
            return super().execute(params, args) or 0
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            tasks = {task.name: task for task in self.task_list}
            raise unknown_task(error.not_found, tasks, self.commands if self.may_be_left_out else ()) from None
        except CmdParseError:  # an option after the name of a task is one of that task's
            first = next(place for place, word in enumerate(args) if word.startswith("-"))
            known = {task.name: task for task in self.task_list}
            own = known[args[first - 1]].params if first and args[first - 1] in known else ()
            if own:
                told = ", ".join(f"--{option['long']}" for option in own)
                raise CmdParseError(f"{args[first]}: {args[first - 1]} has no such option. It has: {told}") from None
            early = " ".join([*args[first:], *args[:first]])
            raise CmdParseError(f"{args[first]}: options come before the tasks: doit {early}") from None

    def check_names(self, tasks: Sequence[Any], names: Sequence[str]) -> None:
        """Refuse what is not the name of a task. The loader calls this before the command is executed."""
        known = {task.name: task for task in tasks}
        for name in names if self.names_tasks else ():
            if name.startswith("-"):
                early = " ".join([name, *(other for other in names if other != name)])
                raise InvalidCommand(f"{name}: options come before the tasks: doit {self.name} {early}")
            if name not in known and not ("*" in name and fnmatch.filter(known, name)):
                raise unknown_task(name, known)

    def needs_no_tasks(self) -> bool:
        """Whether the command can do without any task. The loader asks before it makes them."""
        return False

    def _explained(self, error: CmdParseError) -> str:
        """doit's own text lists the objects by which it knows its options."""
        cause = error.__context__
        if isinstance(cause, getopt.GetoptError):
            return self._unknown(cause)
        # What is left are values, of the option that doit names first, as it knows it.
        option = next(given for given in self.cmdparser.options if f"'{given.name}'" in str(error).splitlines()[0])
        named = f"--{option.long}" if option.long else f"-{option.short}"
        why = str(cause or f"expected one of {', '.join(option.choices)}")
        why = why.replace("invalid literal for int() with base 10:", "expected a number, found")
        return f"{named}: {why}. See: doit help {self.name}"

    def _unknown(self, error: getopt.GetoptError) -> str:
        return f"{error.msg}.{self._meant(error.opt)} See: doit help {self.name}"

    def _meant(self, option: str) -> str:
        from scripts.doit_plugin.manual import VARIABLES

        name = option.partition("=")[0]
        if name in VARIABLES:
            return f" It is a variable, and has no dashes: {name}=DIR."
        return nearest(f"--{name}", (f"--{given.long}" for given in self.cmdparser.options if given.long))

"""`doit run`, and so plain `doit`: an honest exit code, an orderly end, and no tasks made where nothing is to do."""

from __future__ import annotations

import fnmatch
import functools
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from doit.cmd_run import Run as DoitRun
from doit.exceptions import InvalidCommand

from scripts.common.process import StoppedBuildError, end_all, give_signals_back, take_signals
from scripts.doit_plugin.order import MeasuringLast
from scripts.doit_plugin.usage import how_many, is_empty, reworded, unknown_task, why_empty
from scripts.engine.step import Step

_TIDY_SECONDS = 5.0
#: Options of a run that change nothing of what is asked for, by doit's names.
_PLAIN = {"num_process", "dodoFile", "cwdPath", "seek_file"}


class Run(MeasuringLast, DoitRun):  # type: ignore[misc]
    """`doit run`: exits 1 where a step failed, 130 where it was stopped; children never outlive it."""

    doc_purpose = "build; what `doit` does without a command"
    doc_usage = "[TASK | FILE ...]"
    doc_description = "Without a task: everything up to the report. A FILE is one that a task makes."
    may_be_left_out = True
    #: Nothing was asked for on the command line but to build what is asked for by default.
    _plain = False
    #: The options of the run, by doit's names.
    _options: Mapping[str, Any] = MappingProxyType({})
    #: The steps that are asked for; those of a run that has nothing to do.
    _wanted: Sequence[Step] | None = None
    _settled: Sequence[Step] = ()
    cmd_options = tuple(
        {**option, "type": how_many} if option["name"] == "num_process" else option
        for option in reworded(
            DoitRun.cmd_options,
            always="build also what is up to date, and restore nothing from the store",
            num_process="how many steps run at once, or auto: one a core as memory allows; what measures runs alone",
            single="only the tasks named, not what they need",
            outfile="a file to write into, instead of the terminal",
            pdb="open Python's debugger where Ingot or a plain task ends in a traceback",
            auto_delayed_regex="for plain tasks that are made late: see doit's manual",
            failure_verbosity="what of a failed plain task is shown again: 0 nothing, 1 errors, 2 all",
            verbosity="how much of the output of plain tasks is shown: 0, 1 or 2",
            reporter="who prints what happens: ingot, or one of doit's",
            par_type="thread or process",
            **{"continue": "after a plain task failed, go on with others; steps always do"},
        )
    )

    def parse_execute(self, in_args: Sequence[str]) -> int:
        """`doit -h` is about doit as a whole, `doit run -h` about this command."""
        if in_args and in_args[0] in ("-h", "--help") and "run" not in sys.argv:
            from scripts.doit_plugin.manual import overview

            print(overview(self.commands.to_dict()), flush=True)
            return 0
        return super().parse_execute(in_args)

    def check_names(self, tasks: Sequence[Any], names: Sequence[str]) -> None:
        """A name may be that of a file, too, and doit finds out; here those that would do nothing are refused."""
        known = {task.name: task for task in tasks}
        for name in names:
            if name.startswith("-"):  # from here on they are options of a task
                return
            meant = fnmatch.filter(known, name) if "*" in name else [name] if name in known else []
            if meant and all(is_empty(known[task]) for task in meant):
                raise InvalidCommand(why_empty(known[meant[0]]))
            if "*" in name and not meant:
                raise unknown_task(name, known)

    def needs_no_tasks(self) -> bool:
        """Whether all that plain `doit` asks for is up to date: to make tasks takes longer than to find out."""
        options = self._options  # by now with those of `dodo.py`
        plain = self._plain and not options["always"] and hasattr(options["reporter"], "report_settled")
        steps_of = self.loader.load_doit_config().get("steps_of")
        self._wanted = steps_of(self.sel_tasks or ()) if plain and steps_of else None
        settled = self.session.settled(self._wanted or ())
        if not any("ignore:" in record for record in self.session.state.all("task").values() if settled):
            self._settled = settled
        return bool(self._settled)

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        self.asked_by_name = bool(args)
        self._plain = not args and params._non_default_keys <= _PLAIN
        self._options = params
        take_signals()
        try:
            code = super().execute(params, args)
            give_signals_back()  # in here: one that comes between is still met
        except KeyboardInterrupt as stopped:
            from scripts.engine import execute

            end_all()
            if self.loader.namespace is not None:  # else it was stopped before there was a session
                execute.wait_for_running(self.session, _TIDY_SECONDS)
            if isinstance(stopped, StoppedBuildError) and str(stopped):
                print(stopped, file=sys.stderr)
                return 1
            print("\nstopped; what was finished is kept, `doit` goes on from here", file=sys.stderr)
            return 130
        return code or int(bool(self.session.failed))

    # Private to doit: the one place between the loading of `dodo.py`, which brings the session, and the first task.
    @functools.wraps(DoitRun._execute)  # doit passes what the signature names
    def _execute(self, *args: Any, **options: Any) -> int:
        self.session.begin(force_all=bool(options["always"]))
        if self._settled:
            options["reporter"].report_settled(self._settled, self._wanted)
            return 0
        code: int = super()._execute(*args, **options) or 0
        return code

"""doit's commands, where Ingot adds to them: an honest exit code, an orderly end, a clean that leaves no litter."""

from __future__ import annotations

import shutil
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from doit.cmd_clean import Clean as DoitClean
from doit.cmd_run import Run as DoitRun

from scripts.engine import publish
from scripts.engine.engine import STEPS
from scripts.engine.run import InterruptedBuildError, end_all


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class Run(DoitRun):  # type: ignore[misc]
    """`doit run`: exits 1 where a step failed, 130 where it was stopped; children never outlive it."""

    def _execute(self, outfile: Any, *, always: bool = False, **options: Any) -> int:
        signal.signal(signal.SIGTERM, _terminate)
        engines = {step.engine for step in STEPS.values()}
        if always:
            for step in STEPS.values():
                step.engine.forced.add(step.name)
        try:
            code: int = super()._execute(outfile, always=always, **options)
        except (KeyboardInterrupt, InterruptedBuildError):
            end_all()
            print("\nstopped; what was finished is kept, `doit` goes on from here", file=sys.stderr)
            return 130
        return code or int(any(engine.failed for engine in engines))


class Clean(DoitClean):  # type: ignore[misc]
    """`doit clean`: without a task it also removes logs and state, so that nothing of a build is left."""

    def _execute(self, dryrun: bool, cleandep: bool, cleanall: bool, cleanforget: bool, pos_args: Any = None) -> int:
        code: int = super()._execute(dryrun, cleandep, cleanall, cleanforget, pos_args)
        if not pos_args and not dryrun:
            for build in {step.engine.build for step in STEPS.values()}:
                for name in ("logs", publish.WORK):
                    shutil.rmtree(build / name, ignore_errors=True)
        return code

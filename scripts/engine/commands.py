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
from scripts.engine.engine import ENGINES, Engine
from scripts.engine.run import InterruptedBuildError, end_all


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class Run(DoitRun):  # type: ignore[misc]
    """`doit run`: exits 1 where a step failed, 130 where it was stopped; children never outlive it."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        signal.signal(signal.SIGTERM, _terminate)
        Engine.force_all = bool(params["always"])
        try:
            code: int = super().execute(params, args)
        except (KeyboardInterrupt, InterruptedBuildError):
            end_all()
            print("\nstopped; what was finished is kept, `doit` goes on from here", file=sys.stderr)
            return 130
        return code or int(any(engine.failed for engine in ENGINES))


class Clean(DoitClean):  # type: ignore[misc]
    """`doit clean`: without a task it also removes logs and state, so that nothing of a build is left."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        code: int = super().execute(params, args) or 0
        if not args and not params["dryrun"]:
            for build in {engine.build for engine in ENGINES}:
                for name in ("logs", ".locks", publish.WORK):
                    shutil.rmtree(build / name, ignore_errors=True)
        return code

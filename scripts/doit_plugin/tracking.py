"""`doit mlflow`: hands the report over to MLflow. The report stage's own program does it; no stage is known here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import doit
from doit.exceptions import InvalidCommand

from scripts.common import process
from scripts.common.secrets import has_user, plain_addresses
from scripts.doit_plugin.commands import SessionCommand

_VARIABLE = "MLFLOW_TRACKING_URI"
_SECONDS = 3600.0


class MLflow(SessionCommand):
    """`doit mlflow`."""

    doc_purpose = "hand the report over to MLflow: figures and artifacts, a run a precision"
    doc_usage = "[to=URI] [experiment=NAME]"
    doc_description = (
        f"To where {_VARIABLE} says, or to=sqlite:///FILE or another address. An address with a password goes into "
        "that variable alone: every user of a machine sees its command lines. A report that is there is not handed "
        "over again. Builds nothing."
    )
    names_tasks = False

    def execute(self, params: Any, args: Sequence[str]) -> int:
        """Doit calls this with the parsed command line."""
        self.loader.variables = ("to", "experiment")
        return super().execute(params, list(args))

    def _execute(self) -> int:
        asked = doit.get_var("to")
        if asked and has_user(asked):
            told = plain_addresses(f"to={asked}")
            raise InvalidCommand(f"doit mlflow: {told} names a user or a password, which everybody on this machine "
                                 f"sees on a command line: set {_VARIABLE} instead")  # fmt: skip
        uri = asked or os.environ.get(_VARIABLE)
        if not uri:
            raise InvalidCommand(f"doit mlflow: say where to: to=sqlite:///mlflow.db, or set {_VARIABLE}")
        report = self.session.steps["report"].output
        command = [sys.executable, "-m", "scripts.report", "track", f"--report={report}"]
        command.append(f"--build={self.session.build}")
        experiment = doit.get_var("experiment")
        command += [f"--experiment={experiment}"] if experiment else []
        return process.call(command, seconds=_SECONDS, env={_VARIABLE: uri})  # a password is on no command line

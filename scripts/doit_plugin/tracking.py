"""`doit mlflow`: hands the report over to MLflow. The report stage's own program does it; no stage is known here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import doit
from doit.exceptions import InvalidCommand

from scripts.common import process
from scripts.doit_plugin.commands import SessionCommand

_VARIABLE = "MLFLOW_TRACKING_URI"
_SECONDS = 3600.0


class MLflow(SessionCommand):
    """`doit mlflow`."""

    doc_purpose = "hand the report over to MLflow: figures and artifacts, a run a precision"
    doc_usage = "[to=URI] [experiment=NAME]"
    doc_description = (
        f"To where {_VARIABLE} says, or to=sqlite:///FILE or another address. A report that is there is not handed "
        "over again. Builds nothing."
    )
    names_tasks = False

    def execute(self, params: Any, args: Sequence[str]) -> int:
        """Doit calls this with the parsed command line."""
        self.loader.variables = ("to", "experiment")
        return super().execute(params, list(args))

    def _execute(self) -> int:
        uri = doit.get_var("to") or os.environ.get(_VARIABLE)
        if not uri:
            raise InvalidCommand(f"doit mlflow: say where to: to=sqlite:///mlflow.db, or set {_VARIABLE}")
        report = self.session.steps["report"].output
        command = [sys.executable, "-m", "scripts.report", "track", f"--report={report}"]
        command += [f"--build={self.session.build}", f"--uri={uri}"]
        experiment = doit.get_var("experiment")
        return process.call([*command, *([f"--experiment={experiment}"] if experiment else [])], seconds=_SECONDS)

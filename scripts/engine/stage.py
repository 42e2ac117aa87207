"""How a stage becomes a program: `python -m scripts.<stage> VERB --input PATH … --output PATH`.

The build starts every stage through this same command line, so what a person runs by hand is what doit runs. A verb
is a typer command. It reads its inputs, writes `--output` (a folder or a JSON file that does not exist yet), prints
progress as plain lines, and raises `IngotError` for whatever the reader can mend.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer
from filelock import FileLock

from scripts.engine.childenv import CHILD_LOCK, REASON_FILE
from scripts.engine.errors import IngotError
from scripts.engine.run import hold_lifeline


def program(help_text: str) -> typer.Typer:
    """An empty stage program; verbs are added with `@app.command()`. Several verbs or one, all are named."""
    app = typer.Typer(help=help_text, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(lambda: None)  # without it, typer drops the name of a lone verb
    return app


def main(app: typer.Typer) -> NoReturn:
    """Run the program and exit: 0 done, 1 failed with a reason, 2 wrong usage, 130 interrupted."""
    hold_lifeline()
    with _child_lock():
        _run(app)
    sys.exit(0)


def _run(app: typer.Typer) -> None:
    try:
        app(standalone_mode=True)
    except IngotError as error:
        _leave_reason(str(error))
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk or a forbidden folder is the machine's state, not a bug
        reason = f"{error.filename or 'the file system'}: {error.strerror or error}"
        _leave_reason(reason)
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _child_lock() -> contextlib.AbstractContextManager[object]:
    """While a child of a build lives, its work folder is not swept, even if the build itself is gone."""
    path = os.environ.get(CHILD_LOCK)
    return FileLock(path) if path else contextlib.nullcontext()


def parse_json(text: str) -> Any:
    """Parser for typer options that carry structured values, such as a recipe."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}") from None


def _leave_reason(reason: str) -> None:
    if path := os.environ.get(REASON_FILE):
        Path(path).write_text(json.dumps({"reason": reason}), encoding="utf-8")

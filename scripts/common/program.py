"""How a stage becomes a program: `python -m scripts.<stage> VERB --input PATH … --output PATH`.

The build starts every stage through this same command line, so what a person runs by hand is what doit runs. A verb
is a typer command. It reads its inputs, writes `--output` (a folder or a JSON file that does not exist yet), prints
progress as plain lines, and raises `IngotError` for whatever the reader can put right.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scripts.common import lifeline, watch
from scripts.common.childenv import REASON_FILE
from scripts.common.errors import IngotError
from scripts.common.imports import leave_out_address_grammar
from scripts.common.os_errors import ours

if TYPE_CHECKING:
    import typer


def program(help_text: str) -> typer.Typer:
    """An empty stage program; verbs are added with `@app.command()`. Several verbs or one, all are named."""
    import typer  # here: a stage may bring another parser

    app = typer.Typer(help=help_text, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(lambda: None)  # without it, typer drops the name of a lone verb
    return app


def main(app: Callable[..., object], *, watched: bool = False) -> NoReturn:
    """Run the program and exit: 0 done, 1 failed with a reason, 2 wrong usage, 130 interrupted.

    `watched`: it computes what files of strangers ask for, in a child (`scripts.common.watch`).
    """
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # a second one, as Python ends, keeps the exit code
    atexit.register(gc.freeze)  # or Python, as it ends, looks for garbage in all that was imported: near a second
    leave_out_address_grammar()
    lifeline.hold()
    with lifeline.lock():
        if watched:
            spec = sys.modules["__main__"].__spec__
            name = spec.name.removesuffix(".__main__") if spec else "scripts"
            again = [sys.executable, "-m", name, *sys.argv[1:]]
            _run(lambda **_: watch.over(again))
        _run(app)
    sys.exit(0)


def _run(app: Callable[..., object]) -> None:
    try:
        app(standalone_mode=True)
    except IngotError as error:
        _leave_reason(str(error))
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk or a forbidden folder is the machine's state, not a bug
        reason = str(ours(error))
        _leave_reason(reason)
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def command(program: str, verb: str, **options: object) -> list[str]:
    """The command line that starts a verb of a stage: `command("scripts.bench", "serve", package=PATH)`.

    Both names stand there as literal texts: by them, keys know what a step's processes start.
    """
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, "-m", program, verb, *flags]


def parse_json(text: str) -> Any:
    """Parser for typer options that carry structured values, such as a recipe."""
    try:
        return json.loads(text)
    except ValueError as error:
        import typer

        raise typer.BadParameter(f"not JSON: {error}") from None


def _leave_reason(reason: str) -> None:
    if path := os.environ.get(REASON_FILE):
        with contextlib.suppress(OSError):  # a full disk is a likely reason, and then there is no room for it either
            Path(path).write_text(json.dumps({"reason": reason}), encoding="utf-8")

"""Has every Python process note which files of code and data it loads, as it loads them, so that a kill loses nothing.

Found by Python through PYTHONPATH, whatever starts the process; `tests.system.recorded` reads what it wrote. One file
a process below `INGOT_RECORD`: a line of JSON that says who it is, then one of text for each file.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn


def _record(folder: str, project: str) -> None:
    name = f"{folder}/{os.getpid()}.{time.time_ns()}"
    written = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    who = {"pid": os.getpid(), "parent": os.getppid(), "command": sys.orig_argv}
    os.write(written, json.dumps(who).encode() + b"\n")
    seen: set[str] = set()

    def note(file: str) -> None:
        if file not in seen:
            seen.add(file)
            os.write(written, f"{file}\n".encode(errors="surrogateescape"))

    def heard(event: str, given: tuple[object, ...]) -> None:
        if event == "exec":  # a module's code, compiled or not
            code = given[0]
            if getattr(code, "co_name", "") == "<module>":
                note(str(Path(code.co_filename).absolute()))  # type: ignore[attr-defined]
        elif event == "import" and given[1]:  # an extension module
            note(str(given[1]))
        elif event == "open" and isinstance(given[0], str | os.PathLike):
            file = os.fspath(given[0])
            if isinstance(file, str) and file.startswith(project) and not file.endswith((".py", ".pyc")):
                note(file)

    def end() -> None:
        """Libraries that no import names: what a native library has loaded by itself."""
        if sys.platform == "linux":
            for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
                if ".so" in line:
                    note(line[line.index("/") :])

    leave = os._exit

    def exit_at_once(status: int) -> NoReturn:
        end()
        leave(status)

    os._exit = exit_at_once
    atexit.register(end)
    sys.addaudithook(heard)


if "INGOT_RECORD" in os.environ:
    _record(os.environ["INGOT_RECORD"], os.environ["INGOT_RECORD_PROJECT"])

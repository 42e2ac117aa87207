"""Variables of doit's command line: `doit config=DIR build=DIR`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import doit
from doit.exceptions import InvalidDodoFile

from scripts.common.errors import IngotError
from scripts.common.user_files import expanded


def chosen_folders(*names: str) -> tuple[Path, ...]:
    """The folder that each variable gives, from where the user is; else the one of that name beside `dodo.py`.

    doit goes to the folder of `dodo.py` before it reads that file; started elsewhere, it has not found the commands
    of this project, since it looks for their names in the pyproject.toml where it starts.
    """
    project = Path.cwd()
    started = Path(doit.get_initial_workdir() or project)
    said = {name: doit.get_var(name) for name in names}
    try:
        given = {name: Path(os.path.abspath(started / expanded(value))) for name, value in said.items() if value}
    except IngotError as error:
        raise InvalidDodoFile(str(error)) from None
    if started.resolve() != project.resolve():
        words = [shlex.quote(f"{name}={path}") for name, path in given.items()]
        command = " ".join(["cd", shlex.quote(str(project)), "&&", "doit", *words])
        raise InvalidDodoFile(f"{started}: doit must be started in the project's own folder. Type: {command}")
    return tuple(given.get(name, project / name) for name in names)


def typed(*names: str) -> list[str]:
    """The variables that were given, as they were typed: for commands that a reader copies."""
    return [f"{name}={value}" for name in names if (value := doit.get_var(name))]


def called(*words: str) -> str:
    """A command of doit's as a reader copies it, with the `config=` and `build=` that were given."""
    return shlex.join(["doit", *typed("config", "build"), *words])

"""Which code and which tool versions an artifact was made by: the part of a key that is not data.

The sources of a verb are its stage's program, the module that does the work, all that this imports from the project,
however deep, and the stage's data files. Every import counts, also one inside a function: stages import late.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import os
from pathlib import Path

from scripts.engine.digests import digest_bytes
from scripts.engine.state import State

ROOT = Path(__file__).resolve().parent.parent.parent
#: How a stage is started and how it says what went wrong; neither can change what comes out.
_PLUMBING = {"scripts.engine.stage", "scripts.engine.errors"}


@functools.cache
def tool_version(distribution: str) -> str:
    """The installed version, or "absent"."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


class Sources:
    """Digests of the project's modules and of what they import, kept by stamp."""

    def __init__(self, state: State, package: str) -> None:
        self._state, self._package = state, package
        rows = state.rows("select file, stamp, digest, imports from sources")
        self._known: dict[str, tuple[str, str, list[str]]] = {r[0]: (r[1], r[2], json.loads(r[3])) for r in rows}
        self._closures: dict[tuple[str, str], dict[str, str]] = {}

    def of(self, stage: str, verb: str) -> dict[str, str]:
        """Module or data file → digest, for all that `python -m scripts.<stage> <verb>` runs."""
        if (stage, verb) not in self._closures:
            self._closures[stage, verb] = self._closure(stage, verb)
        return self._closures[stage, verb]

    def _closure(self, stage: str, verb: str) -> dict[str, str]:
        folder = ROOT / self._package.replace(".", "/") / stage
        program, worker = f"{self._package}.{stage}.__main__", f"{self._package}.{stage}.{verb.replace('-', '_')}"
        found: dict[str, str] = {}
        if self._file(worker):
            found[program] = self._module(program)[0]  # not followed: it reaches the other verbs too
            pending = [worker]
        else:
            pending = [f"{self._package}.{stage}.{file.stem}" for file in sorted(folder.glob("*.py"))]
        while pending:
            name = pending.pop()
            if name not in found and name not in _PLUMBING and self._file(name):
                found[name], imports = self._module(name)
                pending += imports
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                found[f"{stage}/{file.name}"] = digest_bytes(file.read_bytes())
        return dict(sorted(found.items()))

    def _file(self, module: str) -> Path | None:
        path = ROOT / (module.replace(".", "/") + ".py")
        package = ROOT / module.replace(".", "/") / "__init__.py"
        return path if path.is_file() else package if package.is_file() else None

    def _module(self, module: str) -> tuple[str, list[str]]:
        file = self._file(module)
        if file is None:
            return "absent", []
        status = os.stat(file)
        mark = f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        known = self._known.get(str(file))
        if known is None or known[0] != mark:
            data = file.read_bytes()
            known = (mark, digest_bytes(data), sorted(_imports(data, module)))
            self._known[str(file)] = known
            self._state.rows(
                "insert or replace into sources values (?, ?, ?, ?)",
                str(file),
                known[0],
                known[1],
                json.dumps(known[2]),
            )
        return known[1], known[2]


def _imports(source: bytes, module: str) -> set[str]:
    """The project's modules that a module names in import statements."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source, module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.split(".")[0] in ("scripts", "tests")}

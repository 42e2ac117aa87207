"""Which code and which tool versions an artifact was made by: the part of a key that is not data.

The sources of a verb are its stage's program, the module that does the work, all that this imports from the project,
however deep, and the stage's data files. Every import counts, also one inside a function: stages import late.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from scripts.common.hashes import digest_bytes
from scripts.engine import digests
from scripts.engine.digests import stamp
from scripts.engine.state import State

ROOT = Path(__file__).resolve().parent.parent.parent
#: How a stage is started and how it says what went wrong; neither can change what comes out.
_PLUMBING = {"scripts.common.program", "scripts.common.errors"}


@functools.cache
def tool_version(distribution: str) -> str:
    """The installed version, or "absent"."""
    found = _installed().get(re.sub(r"[-_.]+", "_", distribution).lower())
    if found is None:
        import importlib.metadata

        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
        return "absent"
    return found


@functools.cache
def _installed() -> dict[str, str]:
    """Versions by normalised name, from the names of the folders: a hundred times faster than from the metadata."""
    versions: dict[str, str] = {}
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder or "."):
                if entry.endswith(".dist-info") and entry.count("-") == 2:
                    name, version = entry.removesuffix(".dist-info").split("-")
                    versions.setdefault(re.sub(r"[-_.]+", "_", name).lower(), version)
    return versions


class _Module(NamedTuple):
    mark: str
    digest: str
    imports: list[str]
    has_code: bool


class Sources:
    """Digests of the project's modules and of what they import, kept by stamp."""

    def __init__(self, state: State, package: str) -> None:
        self._state, self._package = state, package
        self._seen: dict[str, _Module | None] = {}
        self._closures: dict[tuple[str, str], dict[str, str]] = {}
        self._texts: dict[tuple[str, str], str] = {}

    @functools.cached_property
    def _known(self) -> dict[str, _Module]:
        return {file: _Module(*json.loads(text)) for file, text in self._state.all("source").items()}

    def of(self, stage: str, verb: str) -> dict[str, str]:
        """Module or data file → digest, for all that `python -m scripts.<stage> <verb>` runs."""
        if (stage, verb) not in self._closures:
            self._closures[stage, verb] = self._closure(stage, verb)
        return self._closures[stage, verb]

    def text(self, stage: str, verb: str) -> str:
        """`of`, as JSON with sorted keys."""
        if (stage, verb) not in self._texts:
            self._texts[stage, verb] = json.dumps(self.of(stage, verb), sort_keys=True)
        return self._texts[stage, verb]

    def forget(self) -> None:
        """Someone may have edited a module: look again when next asked."""
        self._closures, self._texts, self._seen = {}, {}, {}

    def _closure(self, stage: str, verb: str) -> dict[str, str]:
        folder = f"{ROOT}/{self._package.replace('.', '/')}/{stage}"
        program, worker = f"{self._package}.{stage}.__main__", f"{self._package}.{stage}.{verb.replace('-', '_')}"
        data = [name for name in sorted(os.listdir(folder)) if os.path.isfile(f"{folder}/{name}")]
        found: dict[str, str] = {}
        if self._module(worker):
            if started := self._module(program):
                found[program] = started.digest  # not followed: it reaches the other verbs too
            self._follow(worker, found)
        else:
            for name in data:
                if name.endswith(".py") and name != "__init__.py":  # which is followed where it does anything
                    self._follow(f"{self._package}.{stage}.{name[:-3]}", found)
        for name in data:
            if not name.endswith((".py", ".pyc")):
                with open(f"{folder}/{name}", "rb") as file:
                    found[f"{stage}/{name}"] = digest_bytes(file.read())
        return dict(sorted(found.items()))

    def _follow(self, first: str, found: dict[str, str]) -> None:
        """Add a module and all that it imports to `found`, and the packages on the way that do something."""
        pending = [first]
        while pending:
            name = pending.pop()
            if name in found or name in _PLUMBING or not (module := self._module(name)):
                continue
            found[name] = module.digest
            pending += module.imports
            parts = name.split(".")
            packages = [".".join(parts[:end]) for end in range(1, len(parts))]
            pending += [package for package in packages if (init := self._module(package)) and init.has_code]

    def _module(self, name: str) -> _Module | None:
        if name not in self._seen:
            path = f"{ROOT}/{name.replace('.', '/')}"
            self._seen[name] = self._read(name, f"{path}.py") or self._read(name, f"{path}/__init__.py")
        return self._seen[name]

    def _read(self, name: str, file: str) -> _Module | None:
        try:
            mark = " ".join(map(str, stamp(os.stat(file))))
            known = self._known.get(file)
            if known is None or known.mark != mark or not digests.CTIME_TELLS:
                with open(file, "rb") as opened:
                    data = opened.read()
                package = name if file.endswith("/__init__.py") else name.rpartition(".")[0]
                known = self._known[file] = _Module(mark, digest_bytes(data), *_imports(data, package))
                self._state.put("source", file, json.dumps(known))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return known


def _imports(source: bytes, package: str) -> tuple[list[str], bool]:
    """The project's modules that a module of `package` names in import statements; whether it does anything at all."""
    import ast  # only for a module that was never seen

    try:
        tree = ast.parse(source)
    except SyntaxError:  # the step that runs it will say so
        return [], True
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    code = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return sorted(name for name in names if name.split(".")[0] in ("scripts", "tests")), bool(code)

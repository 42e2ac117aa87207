"""Which code and which tools an artifact was made by: the part of a key that is not data.

The code of a step is all that its process tree can load: its verb's command in the stage's program, what that imports,
however deep, the programs that it starts and theirs, and the data files that these name (`scripts.engine.code` says
how that is read). Its tools are the distributions that this code imports, and those that these bring
(`scripts.common.tools`).
"""

from __future__ import annotations

import functools
import json
import os
import threading
from pathlib import Path
from typing import NamedTuple

from scripts.common import tools
from scripts.common.hashes import digest_bytes
from scripts.engine import digests
from scripts.engine.digests import stamp
from scripts.engine.state import State

ROOT = Path(__file__).resolve().parent.parent.parent
#: How a stage and what it calls are started, kept alive and ended, and how it says what went wrong: none of it can
#: change what comes out.
PLUMBING = frozenset({
    "scripts.common.program", "scripts.common.errors", "scripts.common.lifeline", "scripts.common.childenv",
    "scripts.common.process", "scripts.common.watch",
})  # fmt: skip


class Closure(NamedTuple):
    """What a step is made by: module, command or data file → digest; distribution → version. Both are sorted."""

    modules: dict[str, str]
    tools: dict[str, str]
    modules_text: str
    tools_text: str


#: A `Part`: digest, modules, programs and their verbs, data files, modules of others.
_Part = tuple[str, list[str], list[str], list[str], list[str]]


class _Known(NamedTuple):
    """A file as it was when it was read: its stamp, and its `Part`s as JSON values."""

    mark: str
    digest: str
    common: _Part
    verbs: dict[str, _Part]
    acts: bool


class Sources:
    """The closures of a build's steps; what each module loads is kept by stamp."""

    def __init__(self, state: State, package: str) -> None:
        self._state, self._package = state, package
        self._seen: dict[str, _Known | None] = {}
        self._folders: dict[str, frozenset[str]] = {}
        self._closures: dict[tuple[str, str, tuple[str, ...]], Closure] = {}
        #: How often what was read was doubted, and up to which doubt it was looked at again.
        self._doubts = self._looked = 0
        self._lock = threading.RLock()

    def of(self, stage: str, verb: str, loads: tuple[str, ...] = ()) -> Closure:
        """What `python -m scripts.<stage> <verb>` can load; `loads` are modules that only its parameters name."""
        asked = stage, verb, loads
        if self._looked == self._doubts and (found := self._closures.get(asked)):
            return found
        with self._lock:
            doubts = self._doubts
            if self._looked != doubts and not self._is_as_it_was():
                self._closures, self._seen, self._folders = {}, {}, {}
            if asked not in self._closures:
                self._closures[asked] = _Walk(self, f"{self._package}.{stage}", verb, loads).closure()
            self._looked = doubts
            return self._closures[asked]

    def forget(self) -> None:
        """Someone may have edited a module: look again when next asked."""
        with self._lock:
            self._doubts += 1

    def is_inert(self, name: str) -> bool:
        """Whether a module does nothing when it is loaded: a package that only says what it is."""
        found = self.module(name)
        return found is not None and not found[1].acts

    def module(self, name: str) -> tuple[str, _Known] | None:
        """A module's folder and text; None where the project has none of that name."""
        path = f"{ROOT}/{name.replace('.', '/')}"
        for folder, file in ((os.path.dirname(path), f"{path}.py"), (path, f"{path}/__init__.py")):
            if found := self.file(file, name):
                return folder, found
        return None

    def file(self, file: str, name: str = "") -> _Known | None:
        """A file's text; that of the module `name`, if it is one."""
        if file not in self._seen:
            self._seen[file] = self._read(file, name)
        return self._seen[file]

    def data_files(self, folder: str) -> frozenset[str]:
        """The files in a folder that are no modules."""
        if folder not in self._folders:
            self._folders[folder] = self._list(folder)
        return self._folders[folder]

    @staticmethod
    def _list(folder: str) -> frozenset[str]:
        names = (name for name in os.listdir(folder) if not name.endswith((".py", ".pyc")))
        return frozenset(name for name in names if os.path.isfile(f"{folder}/{name}"))

    def _is_as_it_was(self) -> bool:
        """Whether all that was read has the stamp that it had, and nothing came to where something was looked for."""
        if not digests.CTIME_TELLS:
            return False
        try:
            return all(self._mark(file) == (known and known.mark) for file, known in self._seen.items()) and all(
                self._list(folder) == names for folder, names in self._folders.items()
            )
        except OSError:
            return False

    def _mark(self, file: str) -> str | None:
        """The stamps of a file and of what reads it; None where there is no such file."""
        try:
            return f"{self._reader} {' '.join(map(str, stamp(os.stat(file))))}"
        except (FileNotFoundError, NotADirectoryError):
            return None

    @functools.cached_property
    def _known(self) -> dict[str, _Known]:
        return self._state.values("code", _Known)

    @functools.cached_property
    def _reader(self) -> str:
        """The stamp of what reads modules: how it reads may change, too."""
        return " ".join(map(str, stamp(os.stat(f"{os.path.dirname(__file__)}/code.py"))))

    def _read(self, file: str, name: str) -> _Known | None:
        mark = self._mark(file)
        if mark is None:
            return None
        known = self._known.get(file)
        if known is None or known.mark != mark or not digests.CTIME_TELLS:
            try:
                with open(file, "rb") as opened:
                    known = self._known[file] = _parsed(mark, opened.read(), name, file)
            except (FileNotFoundError, NotADirectoryError):
                return None
            self._state.put("code", file, json.dumps(known))
        return known


def _parsed(mark: str, data: bytes, name: str, file: str) -> _Known:
    if not name:
        return _Known(mark, digest_bytes(data), ("", [], [], [], []), {}, True)
    from scripts.engine import code  # only for a module that was never seen

    def as_json(part: code.Part) -> _Part:
        programs = [" ".join(pair) for pair in part.programs]
        return part.digest, [*part.modules], programs, [*part.files], [*part.outside]

    found = code.parse(data, name, is_package=file.endswith("/__init__.py"))
    verbs = {verb: as_json(part) for verb, part in found.verbs.items()}
    return _Known(mark, digest_bytes(data), as_json(found.common), verbs, found.acts)


class _Walk:
    """One closure in the making."""

    def __init__(self, sources: Sources, program: str, verb: str, loads: tuple[str, ...]) -> None:
        self._sources = sources
        self._found: dict[str, str] = {}
        self._outside: set[str] = set()
        self._modules, self._programs = list(loads), [(program, verb)]

    def closure(self) -> Closure:
        """All that is reached from where it starts."""
        while self._modules or self._programs:
            if self._programs:
                self._start(*self._programs.pop())
            else:
                self._load(self._modules.pop())
        modules = dict(sorted(self._found.items()))
        versions = tools.versions(self._outside)
        return Closure(modules, versions, json.dumps(modules), json.dumps(versions))

    def _start(self, program: str, verb: str) -> None:
        """A program, with one verb, or with all of them where it has none of that name."""
        name = f"{program}.__main__"
        found = self._sources.module(name)
        if found is None:  # a module, named where a program could stand
            self._modules.append(program)
            return
        folder, known = found
        self._note(name, folder, known.common)
        for one in [verb] if verb in known.verbs else known.verbs:
            self._note(f"{name}:{one}", folder, known.verbs[one])
        self._load_packages(name)

    def _load(self, name: str) -> None:
        """A module; of "module.attribute", the module."""
        if name in PLUMBING or (name in self._found and not name.endswith(".__main__")):
            return
        found = self._sources.module(name)
        if found is None:
            parent = name.rpartition(".")[0]
            if parent and parent not in self._found and self._sources.module(parent):
                self._modules.append(parent)
            return
        folder, known = found
        if not known.acts:  # a package that only says what it is
            return
        self._note(name, folder, known.common)
        for verb, part in known.verbs.items():
            self._note(f"{name}:{verb}", folder, part)
        self._load_packages(name)

    def _load_packages(self, name: str) -> None:
        parts = name.split(".")
        self._modules += [".".join(parts[:end]) for end in range(1, len(parts))]

    def _note(self, name: str, folder: str, part: _Part) -> None:
        if name in self._found:
            return
        self._found[name], modules, programs, files, outside = part
        self._modules += modules
        self._programs += [(program, verb) for program, _, verb in (pair.partition(" ") for pair in programs)]
        self._outside.update(outside)
        for file in self._sources.data_files(folder).intersection(files):
            if known := self._sources.file(f"{folder}/{file}"):
                self._found[f"{os.path.basename(folder)}/{file}"] = known.digest

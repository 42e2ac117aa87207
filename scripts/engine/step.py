"""A step: one run of one verb of a stage, the unit that is stale or current, built, published and reported.

    inputs + parameters ──► key ──► is what stands there of this key, and whole? ──► else run, check, publish

The command line of the child is made of exactly what is in the key, so nothing reaches it that staleness does not see.
An output is a folder (an artifact with a manifest) or one JSON file (a result with a verdict). A step that breaks, or
has nothing to work on, leaves a marker in `.ingot/` beside its output and the output as it was.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scripts.common.errors import IngotError, MissingInputError
from scripts.engine import manifest, status
from scripts.engine.digests import digest_bytes
from scripts.engine.process import Limits
from scripts.engine.sources import tool_version

if TYPE_CHECKING:
    from scripts.engine.session import Engine

#: Verdicts after which there is nothing to work on for those who need the output.
STOPPING = ("refused", "skipped", "failed")


@dataclass(frozen=True)
class World:
    """What a result claims of the world outside `build/`: which files show it, and whether it still holds.

    `holds` is given the engine's digests by path, which read no file again that has not changed.
    """

    files: Callable[[Mapping[str, Any]], Sequence[str]]
    holds: Callable[[Mapping[str, Any], Callable[[str], str]], str | None]


class Read(NamedTuple):
    """One thing that a step reads: its name in the key, the flag that passes it, a step or the user's own path."""

    name: str
    flag: str
    item: Any


@dataclass(eq=False)
class Step:
    """Declared in `dodo.py`; see `Engine.step` for what the fields mean."""

    engine: Engine
    name: str
    stage: str
    verb: str
    output: Path
    inputs: Mapping[str, Any]
    verdicts: Mapping[str, Any]
    parameters: Mapping[str, Any]
    observed: Mapping[str, Any]
    tools: Sequence[str]
    scratch: Mapping[str, Any]
    world: World | None
    alone: bool
    limits: Limits
    undo: Callable[[Mapping[str, Any]], Sequence[str]] | None
    shows: str | None
    reads: tuple[Step, ...] = ()
    stored: bool = True
    optional: tuple[Step, ...] = ()
    preflight: Mapping[str, str] = field(default_factory=dict)
    last: str = ""
    #: A failure that could not be noted on disk, which was the failure.
    unwritten: dict[str, Any] | None = None
    _look: status.Look | None = field(default=None, repr=False)
    _settled: bool | None = field(default=None, repr=False)
    _tail: tuple[dict[str, str], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        named = [*flat(self.inputs), *flat(self.verdicts), *(("reads", step) for step in self.reads)]
        #: All that it reads, in the order of the command line.
        self.read = [Read(f"{flag}[{number}]", flag, item) for number, (flag, item) in enumerate(named)]
        self.read += [Read(f"optional[{step.name}]", "optional", step) for step in self.optional]
        #: The steps whose outputs this one reads, each once; the optional ones need not be current, nor be there.
        self.upstream = list(dict.fromkeys(item for _, item in named if isinstance(item, Step)))
        text = str(self.output)
        self.is_result = text.endswith(".json")
        self.parent, self.base = os.path.split(text)
        stem = self.base[:-5] if self.is_result else self.base
        #: The file by which doit knows the output, and which those who need it depend on.
        self.target = text if self.is_result else f"{text}{os.sep}{manifest.MANIFEST}"
        #: Where a failure or a skip is noted.
        self.marker = f"{self.parent}/.ingot/{stem}.failed.json"
        #: Where it is written what the output was made from.
        self.provenance = f"{self.parent}/.ingot/{stem}.provenance.json" if self.is_result else (
            f"{text}/{manifest.PROVENANCE}")  # fmt: skip

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    # ---- what it is made from -------------------------------------------------------------------------------------

    def ingredients(self) -> dict[str, Any]:
        """All that the key is made of. Raises `IngotError` where an input of the user's is not there."""
        return {
            "step": f"{self.stage} {self.verb}",
            "inputs": self._inputs(),
            "parameters": dict(self.parameters),
            "observed": dict(self.observed),
            "tools": {name: tool_version(name) for name in self.tools},
            "sources": self.engine.sources.of(self.stage, self.verb),
        }

    def key(self) -> str:
        """`key_of(self.ingredients())`, put together from parts most of which don't change while doit runs."""
        sources = self.engine.sources.of(self.stage, self.verb)
        if self._tail is None or self._tail[0] is not sources:
            given = _json({"observed": dict(self.observed), "parameters": dict(self.parameters)})[1:-1]
            code = self.engine.sources.text(self.stage, self.verb)
            verb, tools = _quoted(f"{self.stage} {self.verb}"), _tools(tuple(self.tools))
            self._tail = sources, f'{given}, "sources": {code}, "step": {verb}, "tools": {tools}'
        read = ", ".join(f"{_quoted(name)}: {_quoted(value)}" for name, value in sorted(self._inputs().items()))
        return digest_bytes(f'{{"inputs": {{{read}}}, {self._tail[1]}}}'.encode())

    def _inputs(self) -> dict[str, str]:
        return {
            name: item.look().outcome if isinstance(item, Step) else self._digest(flag, item)
            for name, flag, item in self.read
        }

    def _digest(self, flag: str, item: Any) -> str:
        try:
            return self.engine.user_input(str(item), self.preflight.get(flag)).digest
        except FileNotFoundError as error:
            raise MissingInputError(error.filename or item, f"is not there, and {self.name} needs it as {flag}",
                                    "Put it there, or change its path in models.toml") from None  # fmt: skip

    def user_files(self) -> dict[str, dict[str, str]]:
        """Of inputs that are the user's folders: name in the key → relative path → digest; for `doit why`."""
        found = {read.name: self.engine.user_input(str(read.item)).files
                 for read in self.read if not isinstance(read.item, Step)}  # fmt: skip
        return {name: files for name, files in found.items() if files is not None}

    def input_names(self) -> dict[str, str]:
        """What to call each input before people."""
        flags = [read.flag for read in self.read]
        return {
            read.name: read.item.name if isinstance(read.item, Step)
            else read.flag if flags.count(read.flag) == 1 else read.name
            for read in self.read
        }  # fmt: skip

    def depends_on(self) -> list[str]:
        """The files and folders that it reads, for people: an artifact by its manifest, the user's own by path."""
        return list(dict.fromkeys(read.item.target if isinstance(read.item, Step) else str(read.item)
                                  for read in self.read))  # fmt: skip

    # ---- is it current --------------------------------------------------------------------------------------------

    def look(self) -> status.Look:
        """What stands there now; looked up once, and again after the step ran."""
        found = self._look
        if found is None:
            found = self._look = status.at(self)
        return found

    def forget(self) -> None:
        """What was seen may have changed: look again when next asked."""
        self._look = self._settled = None

    def forget_inputs(self) -> None:
        """What was seen of its inputs and its code may have changed."""
        self.engine.sources.forget()
        for read in self.read:
            if isinstance(read.item, Step):
                read.item.forget()
            else:
                self.engine.forget_input(str(read.item))

    def is_settled(self) -> bool:
        """Whether it and all that it is made from are current."""
        if self._settled is None:
            self._settled = not self.look().reasons and all(step.is_settled() for step in self.upstream)
        return self._settled

    def key_there(self) -> str | None:
        """The key of what stands there, by its provenance."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError), open(self.provenance, "rb") as file:
            return str(json.load(file)["key"])
        return None

    def disown(self) -> None:
        """Give up the claim that the output is right; the next run builds it again, and restores none like it."""
        if key := self.key_there():
            self.engine.store.drop(key)
        self.engine.drop_receipt(self.name)
        if os.path.isfile(self.provenance):
            os.unlink(self.provenance)
        self.forget()

    # ---- how it is built and what became of it ---------------------------------------------------------------------

    @property
    def storable(self) -> bool:
        """Whether its output may be kept in the store: what observes the world is looked at anew instead."""
        return self.stored and not self.world and not self.alone

    def shown(self) -> str | None:
        """The text that a run prints at its end; None where there is none."""
        file = self.output / self.shows if self.shows else None
        return file.read_text(encoding="utf-8").rstrip() if file and file.is_file() else None

    @property
    def log(self) -> Path:
        """What the last run printed."""
        return self.engine.build / "logs" / f"{self.name.replace(':', '.')}.log"

    def command(self, out: Path) -> list[str]:
        """The child's command line: inputs, parameters and scratch folders as flags."""
        words = [sys.executable, "-m", f"{self.engine.package}.{self.stage}", self.verb]
        for name, item in flat({**self.inputs, **self.verdicts, **self.parameters, **self.scratch}):
            value = item.output if isinstance(item, Step) else item
            words += [f"--{name}", str(value) if isinstance(value, str | Path) else json.dumps(value)]
        return [*words, "--output", str(out)]

    def verdict(self) -> str | None:
        """passed, warned, refused, skipped, failed; None where nothing was built."""
        if self.unwritten:
            return str(self.unwritten["verdict"])
        for file in (self.marker, self.target):
            if os.path.exists(file):
                if file == self.target and not self.is_result:
                    return "passed"
                try:
                    with open(file, encoding="utf-8") as opened:
                        return str(json.load(opened).get("verdict", "passed"))
                except (OSError, ValueError, AttributeError):
                    return None
        return None


def key_of(ingredients: Mapping[str, Any]) -> str:
    """The key of an artifact: a hash of all that it is made from."""
    return digest_bytes(_json(ingredients).encode())


_encode = json.JSONEncoder(sort_keys=True).encode
_quoted = json.encoder.encode_basestring_ascii


def _json(value: Any) -> str:
    try:
        return _encode(value)
    except TypeError as error:
        remedy = "Give a path among inputs or scratch, anything else as JSON"
        raise IngotError("dodo.py", f"a parameter can't be part of a key: {error}", remedy) from None


@functools.cache
def _tools(names: tuple[str, ...]) -> str:
    return _json({name: tool_version(name) for name in names})


def flat(named: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Flags in order, lists spread, absent ones left out."""
    return [
        (name, item)
        for name, value in named.items()
        for item in (value if isinstance(value, tuple) else (value,))
        if item is not None
    ]

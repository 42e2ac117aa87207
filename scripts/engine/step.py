"""A step: one run of one verb of a stage, the unit that is stale or current, built, published and reported.

    inputs + parameters ──► key ──► is what stands there of this key, and whole? ──► else run, check, publish

The command line of the child is made of exactly what is in the key, so nothing reaches it that staleness does not see.
An output is a folder (an artifact with a manifest) or one JSON file (a result with a verdict). A step that breaks, or
has nothing to work on, leaves a marker in `.ingot/` beside its output and the output as it was.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.engine import manifest
from scripts.engine.digests import digest_bytes, stamp
from scripts.engine.errors import IngotError
from scripts.engine.run import Limits
from scripts.engine.sources import tool_version
from scripts.engine.state import Stamp

if TYPE_CHECKING:
    from scripts.engine.engine import Engine

#: Verdicts after which there is nothing to work on for those who need the output.
STOPPING = ("refused", "skipped", "failed")


@dataclass(frozen=True)
class Reason:
    """Why a step is not current: the kind of change, what it concerns, old and new value where there are any."""

    kind: str
    what: str
    old: str | None = None
    new: str | None = None

    def __str__(self) -> str:
        change = f": {self.old} → {self.new}" if self.old is not None or self.new is not None else ""
        return f"{self.kind} {self.what}{change}".strip()


@dataclass(frozen=True)
class Look:
    """What stands under an output's name: `outcome`, a digest of it; `reasons`, why it is stale (none: current)."""

    outcome: str
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class World:
    """What a result claims of the world outside `build/`: which files show it, and whether it still holds."""

    files: Callable[[Mapping[str, Any]], Sequence[str]]
    holds: Callable[[Mapping[str, Any]], str | None]


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
    last: str = ""
    _look: Look | None = field(default=None, repr=False)

    # ---- what it is made from -------------------------------------------------------------------------------------

    @property
    def is_result(self) -> bool:
        """Whether the output is one JSON file and not a folder."""
        return self.output.suffix == ".json"

    @property
    def target(self) -> str:
        """The file by which doit knows the output, and which those who need it depend on."""
        return str(self.output if self.is_result else self.output / manifest.MANIFEST)

    @property
    def marker(self) -> Path:
        """Where a failure or a skip is noted."""
        return self.output.parent / ".ingot" / f"{self.output.stem}.failed.json"

    @property
    def provenance(self) -> Path:
        """Where a result's provenance stands; an artifact has it inside."""
        return self.output.parent / ".ingot" / f"{self.output.stem}.provenance.json"

    def upstream(self) -> list[Step]:
        """The steps whose outputs this one reads."""
        return [item for _, item in self._read_by_key() if isinstance(item, Step)]

    def _read_by_key(self) -> list[tuple[str, Any]]:
        return [*flat(self.inputs), *flat(self.verdicts), *(("reads", step) for step in self.reads)]

    def ingredients(self) -> dict[str, Any]:
        """All that the key is made of. Raises `IngotError` where an input of the user's is not there."""
        return {
            "step": f"{self.stage} {self.verb}",
            "inputs": {
                f"{name}[{number}]": self._digest(name, item) for number, (name, item) in enumerate(self._read_by_key())
            },
            "parameters": dict(self.parameters),
            "observed": dict(self.observed),
            "tools": {name: tool_version(name) for name in self.tools},
            "sources": self.engine.sources.of(self.stage, self.verb),
        }

    def _digest(self, name: str, item: Any) -> str:
        if isinstance(item, Step):
            return item.look().outcome
        try:
            return manifest.tree_digest(str(item), self.engine.digests)
        except FileNotFoundError as error:
            raise IngotError(error.filename or item, f"is not there, and {self.name} needs it as {name}",
                             "Put it there, or change its path in models.toml") from None  # fmt: skip

    # ---- is it current --------------------------------------------------------------------------------------------

    def is_current(self) -> bool:
        """For doit's `uptodate`."""
        return not self.engine.force_all and not self.look().reasons

    def look(self) -> Look:
        """What stands there now; looked up once, and again after the step ran."""
        if self._look is None:
            self._look = self._look_now()
        return self._look

    def _look_now(self) -> Look:
        try:
            ingredients = self.ingredients()
        except (IngotError, OSError) as error:
            return Look("unknown", (Reason("input missing", str(error)),))
        key = key_of(ingredients)
        if self.marker.exists():
            return self._look_at_marker(key)
        receipt = self.engine.receipts.get(self.name)
        if receipt and receipt["key"] == key and self._as_noted(receipt["watch"]):
            return Look(receipt["outcome"])
        return self.look_closely(key, ingredients)

    def _look_at_marker(self, key: str) -> Look:
        try:
            text = self.marker.read_text(encoding="utf-8")
            found = json.loads(text)
            outcome = f"{found['verdict']}:{digest_bytes(text.encode())}"
            if found["verdict"] == "skipped" and found["key"] == key:
                return Look(outcome)
            return Look(outcome, (Reason(found["verdict"], "last time", None, None),))
        except (OSError, ValueError, KeyError, TypeError):
            return Look("unknown", (Reason("marker unreadable", str(self.marker)),))

    def _as_noted(self, watch: Mapping[str, list[int]]) -> bool:
        base = self.output.parent
        try:
            return all(stamp(os.stat(base / name)) == tuple(mark) for name, mark in watch.items())
        except OSError:
            return False

    def look_closely(self, key: str, ingredients: Mapping[str, Any]) -> Look:
        """Without a receipt that fits: read what stands there, and note a receipt if it is what it should be."""
        found = self._read()
        if found is None:
            return Look("absent", (Reason("never built" if not self.output.exists() else "not whole", ""),))
        outcome, provenance, damage, files = found
        reasons = [Reason("output changed", line) for line in damage]
        reasons += changes(provenance.get("ingredients", {}), ingredients) if provenance.get("key") != key else []
        if not reasons and self.world and (gone := self.world.holds(json.loads(self.output.read_text("utf-8")))):
            reasons.append(Reason("no longer so", gone))
        if not reasons:
            self._note_receipt(key, outcome, files)
        return Look(outcome, tuple(reasons))

    def _read(self) -> tuple[str, dict[str, Any], list[str], list[str]] | None:
        """(outcome, provenance, what differs, files relative to the output's parent folder); None without an output."""
        name = self.output.name
        if self.is_result:
            try:
                outcome = self.engine.digests.of(str(self.output))
                provenance = json.loads(self.provenance.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return None
            damage = [] if provenance.get("output") == outcome else [f"{name} changed"]
            return outcome, provenance, damage, [name, f".ingot/{self.provenance.name}"]
        read = manifest.read(str(self.output))
        if read is None:
            return None
        files, provenance = read
        try:
            found = manifest.scan(str(self.output), self.engine.digests)
        except OSError as error:
            return "damaged", provenance, [f"{error.filename} can't be read"], []
        folders = {name} | {f"{name}/{part}" for file in files for part in _parents(file)}
        names = [f"{name}/{file}" for file in (*files, manifest.MANIFEST, manifest.PROVENANCE)]
        return manifest.files_digest(files), provenance, manifest.differences(files, found), [*names, *sorted(folders)]

    def _note_receipt(self, key: str, outcome: str, files: Iterable[str]) -> None:
        base = self.output.parent
        marks: dict[str, Stamp] = {}
        if self.world:
            result = json.loads(self.output.read_text(encoding="utf-8"))
            files = [*files, *self.world.files(result)]
        for name in files:
            try:
                marks[name] = stamp(os.stat(base / name))
            except OSError:
                return
        self.engine.digests.settle(marks.values())
        self.engine.keep_receipt(self.name, {"key": key, "outcome": outcome, "watch": marks})

    def forget(self) -> None:
        """What was seen may have changed: look again when next asked."""
        self._look = None

    def disown(self) -> None:
        """Give up the claim that the output is right; the next run builds it again."""
        self.engine.drop_receipt(self.name)
        for path in (self.provenance, self.output / manifest.PROVENANCE):
            path.unlink(missing_ok=True) if path.is_file() else None
        self.forget()

    # ---- how it is built and what became of it ---------------------------------------------------------------------

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
        for file in (self.marker, self.output if self.is_result else None):
            if file and file.exists():
                try:
                    return str(json.loads(file.read_text(encoding="utf-8")).get("verdict", "passed"))
                except (OSError, ValueError):
                    return None
        return "passed" if not self.is_result and (self.output / manifest.MANIFEST).exists() else None


def key_of(ingredients: Mapping[str, Any]) -> str:
    """The key of an artifact: a hash of all that it is made from."""
    return digest_bytes(json.dumps(ingredients, sort_keys=True).encode())


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Reason]:
    """Typed reasons for two keys to differ."""
    kinds = {"inputs": "input", "parameters": "parameter", "observed": "condition", "tools": "tool version",
             "sources": "stage code"}  # fmt: skip
    found = []
    for group, kind in kinds.items():
        before, after = old.get(group, {}), new.get(group, {})
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                shown = (None, None) if group in ("inputs", "sources") else (_show(before, name), _show(after, name))
                found.append(Reason(f"{kind} changed", name, *shown))
    return found or [Reason("key changed", "")]


def _show(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name], sort_keys=True) if name in values else "absent"


def flat(named: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Flags in order, lists spread, absent ones left out."""
    return [
        (name, item)
        for name, value in named.items()
        for item in (value if isinstance(value, tuple) else (value,))
        if item is not None
    ]


def _parents(file: str) -> list[str]:
    parts = file.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]

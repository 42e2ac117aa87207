"""Whether each step is current, and why not: by its key, by what its output is, by the marker of what went wrong.

To read every output costs a read of every manifest. So what was seen whole leaves a receipt: the key, and the stamp of
each file and folder that was read. While the key is the same and no stamp has moved, nothing else is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from scripts.common import json_files, json_values
from scripts.common.errors import IngotError, MissingInputError
from scripts.common.hashes import digest_bytes
from scripts.engine import outputs
from scripts.engine.digests import Digests
from scripts.engine.keys import Keys, input_names
from scripts.engine.reasons import Reason, changes
from scripts.engine.records import Records
from scripts.engine.sources import Sources
from scripts.engine.step import STOPPING, Part, Step, flat
from scripts.engine.store import Store
from scripts.engine.user_files import UserFiles


class StepStatus(NamedTuple):
    """`outcome`, a digest of what is under an output's name, and `parts`, of its parts by name; `reasons`, why it is
    stale (none: it is current).
    """

    outcome: str
    reasons: tuple[Reason, ...] = ()
    parts: Mapping[str, str] = MappingProxyType({})

    def of_part(self, name: str) -> str:
        """The digest of a part; of what is not whole, and has none, the outcome."""
        return self.parts.get(name, self.outcome)


class Status:
    """The status of a session's steps: found when first asked for, and again after `forget`."""

    def __init__(
        self, digests: Digests, records: Records, sources: Sources, user_files: UserFiles, store: Store
    ) -> None:
        self._digests, self._records, self._store = digests, records, store
        self._sources, self.user_files = sources, user_files
        self.keys = Keys(sources, user_files, lambda step, part: self.of(step).of_part(part))
        self._known: dict[Step, StepStatus] = {}
        self._current: dict[Step, bool] = {}
        #: Markers that could not be written: a full disk is a failure that the rest of the run must know of.
        self._unwritten: dict[Step, Mapping[str, Any]] = {}

    def of(self, step: Step) -> StepStatus:
        """What is under an output's name, and why it is stale."""
        found = self._known.get(step)
        if found is None:
            found = self._known[step] = self._find(step)
        return found

    def is_current(self, step: Step) -> bool:
        """Whether a step and all that it is made from are current."""
        found = self._current.get(step)
        if found is None:
            found = not self.of(step).reasons and all(map(self.is_current, step.upstream))
            self._current[step] = found
        return found

    def forget(self, step: Step) -> None:
        """Its output may have changed: find out again when next asked."""
        self._known.pop(step, None)
        self._current.pop(step, None)

    def forget_all(self) -> None:
        """Find out again of every step when next asked."""
        self._known.clear()
        self._current.clear()

    def forget_inputs(self, step: Step) -> None:
        """Its inputs and its code may have changed: find out again when next asked."""
        self._sources.forget()
        for _, flag, item, _ in step.read:
            if isinstance(item, Step):
                self.forget(item)
            else:
                self.user_files.forget(str(item), step.belongs.get(flag))
        for _, path in flat(step.guards):
            self.user_files.forget(str(path))

    def invalidate(self, step: Step) -> None:
        """Give up the claim that the output is right; the next run builds it again, and restores none like it."""
        if key := outputs.recorded_key(step):
            self._store.drop(key)
            self._records.give_up(key)
        self._records.drop_receipt(step.name)
        for file in (step.provenance, step.announced):
            if os.path.isfile(file):
                os.unlink(file)
        self.forget(step)

    def keep_marker(self, step: Step, marker: Mapping[str, Any] | None) -> None:
        """Remember a marker that could not be written; with None, forget it."""
        if marker is None:
            self._unwritten.pop(step, None)
        else:
            self._unwritten[step] = marker

    def verdict(self, step: Step) -> str | None:
        """passed, warned, refused, skipped, failed; None where nothing was built."""
        if marker := self._unwritten.get(step):
            return str(marker["verdict"])
        for file in (step.marker, step.target):
            if os.path.exists(file):
                if file == step.target and not step.is_result:
                    return "passed"
                try:
                    return str(json_files.read(file).get("verdict", "passed"))
                except (OSError, ValueError, AttributeError):
                    return None
        return None

    def stopped(self, step: Step, *, follows: bool = True) -> list[str]:
        """Why there is nothing to work on: an input that failed, was skipped or refused, or is not there; or, unless
        these don't count, one of the steps that it `follows`.
        """
        given = [item.step if isinstance(item, Part) else item for _, item in flat(step.inputs)]
        needed = [*(item for item in given if isinstance(item, Step)), *(step.follows if follows else ())]
        verdicts = [(item.name, self.verdict(item)) for item in needed]
        stopping = (*STOPPING, None)
        return [f"follows {name}: {verdict or 'not built'}" for name, verdict in verdicts if verdict in stopping]

    def by_reading(self, step: Step, key: str) -> StepStatus:
        """Without a receipt: read the output, and leave a receipt if it is what it should be."""
        found = outputs.read(step, self._digests)
        if found is None:
            was = self._records.cost(step.name) or os.path.lexists(step.output)
            return StepStatus("absent", (Reason("output missing", step.base) if was else Reason("never built", ""),))
        reasons = [Reason("output changed by hand", line) for line in found.damage]
        if found.provenance.get("key") != key:
            reasons += changes(
                found.provenance.get("ingredients") or {}, self.keys.ingredients(step), input_names(step),
                found.provenance.get("files") or {}, self.keys.user_files(step),
            )  # fmt: skip
        if step.is_result and os.path.exists(step.announced):
            reasons.append(Reason("publishing was cut short", step.base))
        stamps = found.stamps
        if not reasons and step.external_state:
            outside, gone = outputs.external_state(step, self._digests)
            stamps = {**stamps, **outside} if stamps is not None and outside is not None else None
            reasons += [Reason("no longer so", gone)] if gone else []
        if not reasons and stamps:
            parts = {_named(step, name): digest for name, digest in found.parts.items()}
            noted = [[name, *s] for name, s in stamps.items()]
            self._records.keep_receipt(step.name, [key, found.outcome, noted, parts])
        return StepStatus(found.outcome, tuple(reasons), found.parts)

    def _find(self, step: Step) -> StepStatus:
        try:
            key = self.keys.key(step)
        except (IngotError, OSError) as error:
            missing = isinstance(error, FileNotFoundError | MissingInputError)
            kind = "input missing" if missing else "input unusable"
            return StepStatus("unknown", (Reason(kind, outputs.describe(error)),))
        if step in self._unwritten or os.path.exists(step.marker):
            return self._by_marker(step, key)
        receipt = self._records.receipt(step.name)
        if receipt and receipt.key == key and outputs.is_untouched(step, receipt.stamps):
            if not step.parts:
                return StepStatus(receipt.outcome)
            noted = ((name, receipt.parts.get(_named(step, name))) for name in step.parts)
            parts = {name: digest for name, digest in noted if digest is not None}
            if parts.keys() == step.parts.keys():  # no part was declared since then, nor otherwise
                return StepStatus(receipt.outcome, (), parts)
        return self.by_reading(step, key)

    def _by_marker(self, step: Step, key: str) -> StepStatus:
        try:
            if step in self._unwritten:
                text = json.dumps(self._unwritten[step])
            else:
                text = json_files.read_bytes(step.marker).decode()
            found = json_values.parse(text, strict=False)
            outcome = f"{found['verdict']}:{digest_bytes(text.encode())}"
            # What it follows is not in its key: where nothing stops it any more, it is to run.
            if found["verdict"] == "skipped" and found["key"] == key and (not step.follows or self.stopped(step)):
                return StepStatus(outcome)
            reason = Reason(f"{found['verdict']} last time", "; ".join(map(str, found["reasons"])))
            return StepStatus(outcome, (reason,))
        except (OSError, ValueError, KeyError, TypeError):
            return StepStatus("unknown", (Reason("marker unreadable", step.marker),))


def _named(step: Step, part: str) -> str:
    """A part's name in a receipt: with its patterns, for these may change."""
    return " ".join((part, *step.parts[part]))

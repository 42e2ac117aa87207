"""The key of a step: a hash of the outcomes of its inputs, its parameters, the tools and the code that act on them."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

from scripts.common import tools
from scripts.common.errors import IngotError, MissingInputError
from scripts.common.hashes import digest_bytes
from scripts.engine.sources import Closure, Sources
from scripts.engine.step import Step, flat
from scripts.engine.user_files import UserFiles


class Keys:
    """Keys of a session's steps. `outcome_of` says what an input that is a step came to: a digest of its output, or of
    the part of it that is named.
    """

    def __init__(self, sources: Sources, user_files: UserFiles, outcome_of: Callable[[Step, str], str]) -> None:
        self._sources, self._user_files, self._outcome_of = sources, user_files, outcome_of
        self._constant: dict[Step, tuple[tuple[Closure, ...], str, str, str]] = {}

    def ingredients(self, step: Step) -> dict[str, Any]:
        """All that the key is made of. Raises `IngotError` where an input of the user's is not there or not sound."""
        made_by = self._made_by(step)
        return {
            "step": f"{step.stage} {step.verb}",
            "inputs": self._inputs(step),
            "parameters": self.parameters(step),
            "observed": dict(step.observed),
            "tools": _tools(step, made_by),
            "sources": made_by.modules,
        }

    def key(self, step: Step) -> str:
        """`key_of(self.ingredients(step))`, put together from parts most of which don't change while doit runs."""
        made_by = self._made_by(step)
        closures = (made_by, *(self._made_by(other) for _, other in flat(step.tools_of)))
        known = self._constant.get(step)
        if known is None or not all(map(operator.is_, known[0], closures)):
            given = _json({"observed": dict(step.observed), "parameters": self.parameters(step)})[1:-1]
            versions = _json(_tools(step, made_by)) if step.tools else made_by.tools_text
            # Not the whole text: most of it is the sources', the same for many steps, and thousands of copies of it
            # would take more memory than all else.
            known = self._constant[step] = closures, given, _quoted(f"{step.stage} {step.verb}"), versions
        _, given, verb, versions = known
        read = ", ".join([f"{_quoted(name)}: {_quoted(value)}" for name, value in sorted(self._inputs(step).items())])
        text = (
            f'{{"inputs": {{{read}}}, {given}, "sources": {made_by.modules_text}, "step": {verb}, "tools": {versions}}}'
        )
        return digest_bytes(text.encode())

    def parameters(self, step: Step) -> dict[str, Any]:
        """The parameters, and as further ones the versions of the tools that act in the steps of `tools_of`."""
        versions = {
            flag: {name: version for other in others for name, version in _tools(other, self._made_by(other)).items()}
            for flag, others in step.tools_of.items()
        }
        return {**step.parameters, **versions}

    def user_files(self, step: Step) -> dict[str, dict[str, str]]:
        """Of inputs that are the user's folders: name in the key → relative path → digest; for `doit why`."""
        found = {name: self._user_files.of(str(item), step.belongs.get(flag)).files
                 for name, flag, item, _ in step.read if not isinstance(item, Step)}  # fmt: skip
        return {name: files for name, files in found.items() if files is not None}

    def _made_by(self, step: Step) -> Closure:
        return self._sources.of(step.stage, step.verb, step.loaded())

    def _inputs(self, step: Step) -> dict[str, str]:
        if step.problem:
            raise IngotError(step.problem.subject, step.problem.found, step.problem.remedy)
        for function, path in flat(step.guards):
            self._digest(step, "", path, function)
        outcome_of = self._outcome_of
        return {
            name: outcome_of(item, part) if isinstance(item, Step)
            else self._digest(step, flag, item, step.preflight.get(flag))
            for name, flag, item, part in step.read
        }  # fmt: skip

    def _digest(self, step: Step, flag: str, item: Any, judge: str | None) -> str:
        try:
            return self._user_files.of(str(item), step.belongs.get(flag), judge).digest
        except FileNotFoundError as error:
            needs = f"{step.name} needs it" + (f" as {flag}" if flag else "")
            raise MissingInputError(error.filename or item, f"is not there, and {needs}",
                                    "Put it there, or change its path in models.toml") from None  # fmt: skip


def key_of(ingredients: Mapping[str, Any]) -> str:
    """The key of an artifact: a hash of all that it is made from."""
    return digest_bytes(_json(ingredients).encode())


def input_names(step: Step) -> dict[str, str]:
    """What to call each input before people: name in the key → a step's name, and which part of it, or the flag."""
    flags = [read.flag for read in step.read]
    return {
        read.name: f"{read.item.name} ({read.part})" if read.part
        else read.item.name if isinstance(read.item, Step)
        else read.flag if flags.count(read.flag) == 1 else read.name
        for read in step.read
    }  # fmt: skip


_encode = json.JSONEncoder(sort_keys=True).encode
_quoted = json.encoder.encode_basestring_ascii


def _json(value: Any) -> str:
    try:
        return _encode(value)
    except TypeError as error:
        remedy = "Give a path among inputs or scratch, anything else as JSON"
        raise IngotError("dodo.py", f"a parameter can't be part of a key: {error}", remedy) from None


def _tools(step: Step, made_by: Closure) -> dict[str, str]:
    return made_by.tools | {name: tools.installed(name) for name in step.tools}

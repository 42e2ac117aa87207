"""Which deployed model is meant by what was typed: a model, a precision of it, an alias, a name or an id.

A model without a precision means the recommended one. What is not in the cache is told with the reason why it is not,
and a misspelt name with the one that was probably meant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from scripts.common.errors import IngotError, UnknownNameError
from scripts.common.model_id import is_id, parse
from scripts.foundry import cache as caches
from scripts.foundry import marks, planning
from scripts.foundry.standing import Asked
from scripts.results import base
from scripts.results.foundry import Deploy
from scripts.results.quality import Advice


class Given(msgspec.Struct, frozen=True):
    """What `dodo.py` tells of a build: `asked` as `Settings.asked` has it, `cases` a model's file of cases, `bases` the
    folder below `build` of a model's base, `elsewhere` the execution providers of precisions that are not run here.
    """

    cache: str
    config: str
    build: str
    asked: dict[str, Any]
    cases: dict[str, str] = {}
    options: list[str] = []
    bases: dict[str, str] = {}
    elsewhere: dict[str, dict[str, str]] = {}
    public_key: str = ""

    @classmethod
    def of(cls, given: Any) -> Given:
        """Raises `IngotError` where it is of another form."""
        try:
            return msgspec.convert(given, cls)
        except msgspec.ValidationError as error:
            raise IngotError("--deployed", str(error), "Use the commands of doit") from None

    @property
    def wanted(self) -> Asked:
        """What the configuration asks for."""
        return Asked.of(Path(self.config), Path(self.build), self.asked)


@dataclass(frozen=True)
class Model:
    """A model that a runtime would list: its id and folder; of which model and precision it is, if that is known."""

    id: str
    folder: Path
    model: str | None = None
    precision: str | None = None
    own: marks.Own | None = None

    @property
    def name(self) -> str:
        """The id without its version."""
        return self.id.rpartition(":")[0]

    @property
    def version(self) -> int:
        """The number after the colon."""
        return int(self.id.rpartition(":")[2])


@dataclass(frozen=True)
class Place:
    """A Foundry cache and the build that deploys into it."""

    cache: Path
    asked: Asked
    cases: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Any) -> Place:
        """From what `dodo.py` says. Raises `IngotError` where that is of another form, or the cache can't be found."""
        found = Given.of(given)
        return cls(caches.resolve(found.cache), found.wanted, found.cases, tuple(found.options))

    def listed(self) -> list[Model]:
        """All that is registered and there, and so can be loaded; by id, the newest version of a name first."""
        own = {one.id: one for one in marks.ours(self.cache)}
        found = []
        for model_id, folder in caches.registrations(self.cache).items():
            if is_id(model_id) and (folder / caches.SETTINGS).is_file():
                mine = own.get(model_id)
                mine = mine if mine and marks.same(mine.folder, folder) else None
                model, precision = self.asked.names.get(model_id.rpartition(":")[0]) or (None, None)
                found.append(Model(model_id, folder, model, precision, mine))
        return sorted(found, key=lambda one: (one.name, -one.version))

    def find(self, word: str) -> Model:
        """The model that is meant; "" means the only one that is configured. Raises `UnknownNameError`."""
        listed = self.listed()
        models = sorted({model for model, _ in self.asked.names.values()})
        if not word and len(models) == 1:
            word = models[0]
        if not word:
            raise UnknownNameError("which model?", "there is more than one", _those(_words(listed)))
        if of_model := [one for one in listed if one.model and one.model.casefold() == word.casefold()]:
            return self._recommended(of_model)
        for one in listed:
            if word.casefold() in (name.casefold() for name in _names(one)):
                return one
        raise UnknownNameError(word, self._why_not(word), self._remedy(word, listed))

    def own(self, word: str, gone: bool = False) -> list[marks.Own]:
        """What Ingot put there of a model, a precision, an alias or a name, listed or not; or the one of an id.

        `gone`: also what is only registered any more. Raises `UnknownNameError` where there is none, `IngotError` where
        somebody else put it there.
        """
        folded, found = word.casefold(), [*marks.ours(self.cache), *(self._gone() if gone else ())]
        names = {one.id: self._names_of(one) for one in found}
        if meant := [one for one in found if folded in names[one.id]]:
            return meant
        if any(folded == one.id.casefold() for one in self.listed()):
            raise IngotError(word, "was not put there by Ingot", "Take it down with whatever put it there")
        import difflib

        near = difflib.get_close_matches(
            folded, list(dict.fromkeys(name for one in found for name in names[one.id])), n=1
        )
        there = ", ".join(one.id for one in found) or "none"
        remedy = (f"Did you mean {near[0]}? " if near else "") + f"Deployed by Ingot: {there}"
        raise UnknownNameError(word, f"there is no such model in {self.cache}", remedy)

    def _gone(self) -> Iterator[marks.Own]:
        there = {own.id for own in marks.ours(self.cache)}
        for model_id, folder in planning.misplaced(self.cache).items():
            if model_id not in there and is_id(model_id):
                yield marks.Own(model_id, folder, {})

    def _names_of(self, own: marks.Own) -> list[str]:
        model, precision = self.asked.names.get(own.name) or (None, None)
        named = [model, f"{model}-{precision}"] if model else []
        return [name.casefold() for name in (own.id, own.name, parse(own.id).alias, *named) if name]

    def _recommended(self, found: list[Model]) -> Model:
        model = str(found[0].model)
        advice = base.find(self.asked.build / model / "recommend.json", Advice)
        best = advice.recommended if advice else None
        for one in found:
            if one.precision == best:
                return one
        why = f"{best}, which is recommended, is not deployed" if best else "none is recommended"
        print(f"{model}: {why}; this is {found[0].id}", file=sys.stderr)
        return found[0]

    def _why_not(self, word: str) -> str:
        for name, (model, precision) in self.asked.names.items():
            if word.casefold() in (f"{model}-{precision}".casefold(), name.casefold(), model.casefold()):
                result = base.find(self.asked.build / model / precision / "deploy.json", Deploy)
                if result is None:
                    return "is not deployed"
                if result.path is None:
                    return f"is not deployed: {'; '.join(result.reasons)}"
                return f"is not in {self.cache} any more"
        return f"there is no such model in {self.cache}"

    def _remedy(self, word: str, listed: list[Model]) -> str:
        import difflib

        words = _words(listed)
        near = difflib.get_close_matches(word, [*words, *(one.id for one in listed)], n=1)
        return (f"Did you mean {near[0]}? " if near else "") + _those(words)


def _names(one: Model) -> Iterator[str]:
    """By what a listed model can be called."""
    yield one.id
    yield one.name
    yield parse(one.id).alias
    if one.model:
        yield f"{one.model}-{one.precision}"


def _words(listed: list[Model]) -> list[str]:
    """What could have been typed: models, and the shortest name of each that is listed."""
    models = [one.model for one in listed if one.model]
    return list(dict.fromkeys([*models, *(parse(one.id).alias for one in listed)]))


def _those(words: list[str]) -> str:
    return f"There are: {', '.join(words)}" if words else "Nothing is deployed there: doit"

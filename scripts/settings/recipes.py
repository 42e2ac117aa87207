"""`recipes.toml`: what a precision means. The project brings some; a user's file adds others or replaces them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from scripts.common.errors import IngotError
from scripts.common.toml_file import load
from scripts.common.typed import given, key_name, parse, place
from scripts.common.user_files import read_json, resolved
from scripts.definitions import passes, sizes, steps, workflow
from scripts.definitions.gates import DEFAULT_GATES, Gates
from scripts.definitions.steps import Steps, check_kind, check_steps
from scripts.settings.names import RECIPE_WORDS, Name, check_name

#: The project's own configuration: recipes and texts that a user's folder need not repeat.
PROJECT_CONFIG = Path(__file__).resolve().parents[2] / "config"


class RecipeTable(Steps, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One table of recipes.toml: a precision by its name."""

    target: Annotated[
        Any, Meta(description="the execution provider", extra_json_schema={"enum": [*passes.TARGETS], "default": "cpu"})
    ] = "cpu"
    label: Annotated[str | None, Meta(description="shown wherever the precision is")] = None
    olive: Annotated[
        Annotated[str, Meta(min_length=1, title="the path of a JSON file")] | None,
        Meta(description="instead of passes: a whole Olive workflow, which starts from the checkpoint"),
    ] = None
    gates: Annotated[Gates, Meta(description="what is asked of a model in this precision")] = Gates()


@dataclass(frozen=True)
class Recipe:
    """What a precision means: `steps` is its table in `recipes.toml`, ready for the convert stage."""

    name: str
    target: str
    steps: Mapping[str, Any]
    gates: Mapping[str, float]
    scripts: tuple[Path, ...] = ()

    @property
    def runs_here(self) -> bool:
        """Whether what it makes is run, measured and deployed; else it is made, and judged as far as that goes."""
        return self.target == passes.HERE

    @property
    def needs_checkpoint(self) -> bool:
        """Whether it is a whole workflow, which starts from the checkpoint and not from the float export."""
        return "olive" in self.steps

    @property
    def calibrates(self) -> bool:
        """Whether a pass of it calibrates on what the model computes for texts of its own kind."""
        return any(passes.calibrates(kind, options) for kind, options in steps.passes_of(self.steps))

    @property
    def computes_in_float(self) -> bool:
        """Whether a model that it makes is served with float32 weights, however they are stored."""
        return not any(passes.quantises(kind, options) for kind, options in steps.passes_of(self.steps))

    @property
    def fineness(self) -> tuple[float, bool]:
        """How near it comes to float, as far as its passes tell: bits of a weight, whether it is calibrated."""
        bits = [passes.bits(kind, options) for kind, options in steps.passes_of(self.steps)]
        return min(bits, default=8), self.calibrates

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of the files for each weight, as measured or, where that is chosen, as asked for."""
        asked = [options["target_bits"] for _, options in steps.passes_of(self.steps) if options.get("target_bits")]
        if asked:
            return sizes.of_whole(min(asked))
        floats = any(options.get("quantize_embedding") is False for _, options in steps.passes_of(self.steps))
        return max(sizes.of_bits(self.fineness[0]), sizes.FLOAT_EMBEDDING if floats else 0)

    @property
    def bytes_meanwhile(self) -> float:
        """Bytes of the disk that it takes for each weight while it is made, beside its own files."""
        chooses = any(options.get("target_bits") for _, options in steps.passes_of(self.steps))
        return sizes.ROUNDED if chooses else 0.0

    @property
    def sums_floats(self) -> bool:
        """Whether what comes out may differ by a bit from one kind of processor to another."""
        found = steps.passes_of(self.steps)
        return self.needs_checkpoint or any(passes.sums_floats(kind, options) for kind, options in found)

    @property
    def modules(self) -> tuple[str, ...]:
        """The project's modules that it chooses by the passes it names, for the key of the step that runs them."""
        return steps.modules(self.steps)


@dataclass(frozen=True)
class Recipes:
    """All recipes by name, and what is wrong with those that can't be used."""

    sound: dict[str, Recipe] = field(default_factory=dict)
    broken: dict[str, IngotError] = field(default_factory=dict)


def read_recipes(config: Path) -> Recipes:
    """The project's recipes, and those of the folder `config`. Raises `IngotError` for a file that can't be read.

    A mistake in one recipe concerns the models that name it, and no others.
    """
    files = [PROJECT_CONFIG / "recipes.toml"]
    if os.path.lexists(config / "recipes.toml") and config.resolve() != PROJECT_CONFIG:
        files.append(config / "recipes.toml")
    found = Recipes()
    for file in files:
        for name, values in load(file).items():
            found.sound.pop(name, None)
            found.broken.pop(name, None)
            try:
                found.sound[name] = _recipe(name, values, file)
            except IngotError as error:
                found.broken[name] = error
    return found


def _recipe(name: str, values: Any, file: Path) -> Recipe:
    where = key_name(name)
    parse({"name": name}, _Named, file=file)
    check_name(place(file, where), name, RECIPE_WORDS)
    table = parse(values, RecipeTable, file=file, where=where)
    check_kind(table, file, where)
    olive, path = None, file
    if table.olive is not None:
        try:
            path = resolved(file.parent, table.olive)
        except ValueError as error:
            raise IngotError(place(file, where, "olive"), f"is not a path: {error}", "Correct it") from None
        try:
            olive = read_json(path)
        except IngotError as error:
            raise IngotError(place(file, where, "olive"), str(error)) from None
    check_steps(table, olive, file, where)
    scripts = _scripts(file, where, olive, path.parent) if table.trust else {}
    steps = {"target": table.target, "label": table.label, "passes": table.passes, "olive": olive,
             "trust": table.trust or None, "scripts": list(scripts) or None}  # fmt: skip
    return Recipe(
        name, table.target, {key: item for key, item in steps.items() if item is not None},
        given(table.gates) or dict(DEFAULT_GATES), tuple(scripts.values()),
    )  # fmt: skip


def _scripts(file: Path, where: str, olive: Any, folder: Path) -> dict[str, Path]:
    """The code that a trusted workflow names: where it is, by the names given, which are relative to the workflow."""
    found = {}
    for name in workflow.scripts(olive):
        subject = place(file, where, "olive")
        try:
            found[name] = resolved(folder, name)
        except ValueError as error:
            raise IngotError(subject, f"names code at {name!r}, which is not a path: {error}", "Correct it") from None
        if not found[name].exists():
            raise IngotError(subject, f"names code that is not there: {found[name]}", "Put it there, or correct it")
    return found


class _Named(Struct):
    name: Name

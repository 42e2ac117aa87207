"""A user's own Olive workflow, as a recipe names it: judged when it is read, as far as JSON tells.

It is a stranger's file, which may ask Olive to run scripts, on other hosts too. None of that is done: what a script
does is in no key, so nothing could say when its result is stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scripts.common.errors import IngotError
from scripts.common.typed import key_name, place, short
from scripts.definitions.passes import check_pass

#: What an entry under "passes" says beside its options.
PASS_KEYS = ("type", "config", "host", "evaluator")
#: Keys by which Olive 0.13 loads code that is not its own.
_CODE = ("user_script", "script_dir", "trust_remote_code", "custom_script", "module_path")
Passes = list[tuple[str, dict[str, Any]]]


def check(workflow: Any, *, file: object = "", where: str = "") -> None:
    """Raise `IngotError` where it is not a workflow, has a mistake that can be seen, or asks for what is not done."""
    if not isinstance(workflow, dict) or not isinstance(workflow.get("passes"), dict) or not workflow["passes"]:
        raise IngotError(place(file, where), "has no passes", 'Give a whole Olive workflow, with "passes"')
    _check_input(workflow.get("input_model", {}), file, where)
    if not isinstance(workflow.get("engine") or {}, dict):
        raise IngotError(place(file, where, "engine"), f"expected a table, found {short(workflow['engine'])}", "")
    used = {key: value for key, value in workflow.items() if key != "input_model"}  # that one is replaced
    for path, key, value in _below(used, ()):
        if key in _CODE and value not in (None, False, ""):
            raise IngotError(place(file, where, *path, key), "runs code that is not Olive's own, which is refused",
                             "Leave it out")  # fmt: skip
    _check_systems(workflow.get("systems"), file, where)
    for name, step in steps(workflow, file=file, where=where):
        check_pass(step.get("type"), options_of(step), file=file, where=_join(where, "passes", key_name(name)))


def steps(workflow: dict[str, Any], *, file: object = "", where: str = "") -> Passes:
    """The passes in order, by name."""
    found: Passes = []
    for name, value in workflow["passes"].items():
        subject = place(file, where, "passes", key_name(name))
        several = value if isinstance(value, list) else [value]
        if len(several) != 1:
            raise IngotError(subject, f"has {len(several)} alternatives, of which Olive would choose one",
                             "Give each its own name, or write two recipes")  # fmt: skip
        [step] = several
        if not isinstance(step, dict) or not isinstance(step.get("config") or {}, dict):
            raise IngotError(subject, f"expected a table, found {short(step)}", 'Give "type"')
        found.append((name, step))
    return found


def options_of(step: dict[str, Any]) -> dict[str, Any]:
    """What a pass is told, under "config" or beside it."""
    return {**{key: value for key, value in step.items() if key not in PASS_KEYS}, **(step.get("config") or {})}


def _check_input(model: Any, file: object, where: str) -> None:
    subject = place(file, where, "input_model")
    if not isinstance(model, dict) or not isinstance(model.get("config") or {}, dict):
        raise IngotError(subject, f"expected a table, found {short(model)}", "Leave it out: the build gives its own")
    if (model.get("config") or model).get("adapter_path"):
        found = "names an adapter, which the builder would not merge"
        raise IngotError(f"{subject}.adapter_path", found, "Give it as the model's adapters")


def _check_systems(systems: Any, file: object, where: str) -> None:
    """Only this machine, and only its CPU."""
    if systems is None:
        return
    for name, system in systems.items() if isinstance(systems, dict) else ():
        subject = place(file, where, "systems", key_name(name))
        if not isinstance(system, dict) or str(system.get("type", "LocalSystem")).lower() != "localsystem":
            raise IngotError(subject, "is not this machine", 'Use { "type": "LocalSystem" }, or leave systems out')
        for path, key, value in _below(system, ()):
            providers = value if isinstance(value, list) else [value]
            if key == "execution_providers" and any(item != "CPUExecutionProvider" for item in providers):
                raise IngotError(place(subject, *path, key), f"{short(value)} is not supported yet",
                                 'Use ["CPUExecutionProvider"]')  # fmt: skip


def _below(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Every key in it, however deep, with the way there and its value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(key, str):
            yield path, key, item
        yield from _below(item, (*path, key_name(key) if isinstance(key, str) else f"[{key}]"))


def _join(*parts: str) -> str:
    return place("", *parts)

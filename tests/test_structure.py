"""Who may import whom: read from the source, with every import counted, also those for types and those in functions."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: The stages in the order of the data: none imports a later one.
STAGES = ("checkpoint", "convert", "quality", "package", "attest", "foundry", "bench", "report")
#: What every stage may import: none of it knows a stage.
SHARED = {"common", "definitions", "results", "runtime", "cases", "families"}
#: Room → the rooms of the project that it may import besides itself.
MAY_IMPORT = {
    "checkout_only": set(),  # Hatchling's hook
    "common": set(),
    "engine": {"common"},
    "families": {"common"},
    "results": {"common"},
    "runtime": {"common"},
    "definitions": {"common"},
    "settings": {"common", "definitions"},
    "cases": {"common", "results", "runtime"},
    "doit_plugin": {"common", "engine"},
    **{stage: SHARED | set(STAGES[:number]) for number, stage in enumerate(STAGES)},
    # Programs beside the pipeline, which no stage imports.
    "finetune": SHARED | set(STAGES),
    "edges": SHARED | set(STAGES),
    "pack": SHARED | set(STAGES),
    "serving": SHARED | {"pack", *STAGES},
    "doctor": SHARED | {"settings", *STAGES},
    "init": SHARED | {"settings", *STAGES},
}
#: Distribution → the modules that adapt it: a new release of it changes these alone.
ADAPTERS = {
    "doit": {"scripts.doit_plugin."},
    "fsspec": {"scripts.engine.remote"},
    "distributed": {"scripts.engine.scheduler"},
    "watchfiles": {"scripts.doit_plugin.watching"},
    "model_signing": {"scripts.attest.signing"},
    "mlflow": {"scripts.report.tracking"},
    "olive": {
        f"scripts.convert.{name}"
        for name in (
            "builder_pass",
            "cache_pass",
            "float16_pass",
            "mobius_pass",
            "olive",
            "pass_options",
            "weightonly_pass",
        )
    },
    "mobius": {"scripts.convert.mobius_pass"},
    # the runtime; its providers; the model builder
    "onnxruntime_genai": {"scripts.runtime.genai", "scripts.runtime.plugins", "scripts.convert.builder_pass"},
    "onnxruntime_ep_webgpu": {"scripts.runtime.plugins"},
    "openvino": {"scripts.runtime.openvino"},
    "foundry_local_sdk": {"scripts.runtime.foundry", "scripts.runtime.chat"},
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module of the project by name; a package by the name of its folder."""
    found = {}
    for file in [ROOT / "dodo.py", *sorted((ROOT / "scripts").rglob("*.py"))]:
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(file.read_bytes(), file)
    return found


def named(tree: ast.Module) -> Iterator[str]:
    """What a module imports, wherever in it: of `from a import b` both `a` and `a.b`, one of which is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import: name the module in full"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def all_named() -> dict[str, set[str]]:
    return {name: set(named(tree)) for name, tree in modules().items()}


@functools.cache
def imports() -> dict[str, set[str]]:
    """Module → the project's modules that it imports. That `a.b` has `a/__init__.py` run counts only if it is named."""
    known = all_named()
    return {name: (others & known.keys()) - {name} - packages(name) for name, others in known.items()}


def packages(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))} | {"scripts"}


def room(module: str) -> str:
    return module.split(".")[1] if module.startswith("scripts.") else module


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: set(others) for name, others in imports().items()}
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    # What is left is a circle, or leads to one: to see the circle alone, take away what nobody left imports.
    while tops := graph.keys() - {other for others in graph.values() for other in others}:
        for name in tops:
            del graph[name]
    assert not graph, f"import each other, late imports and those for types counted: {sorted(graph)}"


def test_rooms_import_only_what_is_before_them() -> None:
    broken = {
        (name, other)
        for name, others in imports().items()
        for other in others
        if name != "dodo" and room(other) not in MAY_IMPORT.get(room(name), set()) | {room(name)}
    }
    assert not broken, sorted(broken)


def test_every_room_has_its_rule() -> None:
    rooms = {room(name) for name in modules()} - {"scripts", "dodo"}
    assert rooms <= MAY_IMPORT.keys(), f"without a rule: {sorted(rooms - MAY_IMPORT.keys())}"


def users_of(distribution: str) -> set[str]:
    return {name for name, others in all_named().items() if distribution in {other.split(".")[0] for other in others}}


def adapts(adapter: str, module: str) -> bool:
    """Whether a module is an adapter, or in the package that is one, whose name ends with a dot."""
    return module.startswith(adapter) if adapter.endswith(".") else module == adapter


@pytest.mark.parametrize("distribution", ADAPTERS)
def test_a_tool_is_imported_by_its_adapters_alone(distribution: str) -> None:
    users = users_of(distribution)
    strangers = {name for name in users if not any(adapts(adapter, name) for adapter in ADAPTERS[distribution])}
    assert not strangers, f"import {distribution}: {sorted(strangers)}"


@pytest.mark.parametrize("distribution", ADAPTERS)
def test_no_adapter_is_named_in_vain(distribution: str) -> None:
    users = users_of(distribution)
    unused = {a for a in ADAPTERS[distribution] if not any(adapts(a, name) for name in users)}
    assert not unused

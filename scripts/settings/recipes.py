"""`recipes.toml`: what a precision means. The project brings some; a user's file adds others or replaces them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.errors import IngotError
from scripts.common.toml_table import Table, load

#: The project's own configuration: recipes and texts that a user's folder need not repeat.
PROJECT_CONFIG = Path(__file__).resolve().parents[2] / "config"

#: What Foundry accepts before the colon of a model id (foundry-local-sdk 2.2.1, `register_model`).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
#: Names that have a meaning of their own in the folder of a model.
_RESERVED = {
    "checkpoint",
    "reference",
    "export",
    "finetune",
    "package",
    "onnx",
    "quality",
    "domain",
    "recommend",
    "float",
}
#: By these Foundry tells devices, wherever in a name they stand.
_DEVICE_PARTS = ("generic-cpu", "generic-gpu", "generic-npu", "cuda-gpu")

GATES = {
    "kl": lambda value: value > 0,
    "kl_warn": lambda value: value > 0,
    "kl_p99": lambda value: value > 0,
    "top1": lambda value: 0 <= value <= 1,
    "perplexity_ratio": lambda value: value > 0,
    "domain_points": lambda value: 0 <= value <= 100,
}
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

    @property
    def calibrates(self) -> bool:
        """Whether a pass of it looks at what the model computes on texts of its own kind."""
        return any(step.get("algorithm") == "gptq" for step in self.steps.get("passes", ()))


def read_recipes(config: Path) -> dict[str, Recipe]:
    """All recipes by name: the project's, and those of the folder `config`. Raises `IngotError`."""
    files = [PROJECT_CONFIG / "recipes.toml"]
    if (config / "recipes.toml").exists() and config.resolve() != PROJECT_CONFIG:
        files.append(config / "recipes.toml")
    found: dict[str, Recipe] = {}
    for file in files:
        for name, values in load(file).items():
            found[name] = _recipe(name, Table(values, file, name))
    return found


def _recipe(name: str, table: Table) -> Recipe:
    check_name(table, "", name, _RESERVED)
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


def check_name(table: Table, key: str, name: str, reserved: Iterable[str]) -> None:
    """Refuse a name that Foundry or a file system would refuse, or that means something else. Raises `IngotError`."""
    lower = name.lower()
    if not _NAME.fullmatch(name) or name.endswith(".") or len(name) > 80:
        raise table.error(key, f"{name!r} is no name that Foundry and every file system take",
                          "Use up to 80 letters, digits, - _ . only; a letter or digit first")  # fmt: skip
    if lower in reserved or lower.split(".")[0] in _WINDOWS_DEVICES:
        raise table.error(key, f"{name!r} is reserved", "Choose another name")
    if part := next((part for part in _DEVICE_PARTS if part in lower), None):
        raise table.error(key, f"{name!r} contains {part!r}, by which Foundry tells devices", "Choose another name")

"""A model's id as Foundry Local takes it, NAME:NUMBER, and which names may be folders on every system.

Source: the behaviour of `register_model`, foundry-local-sdk 2.2.1: `v:1.0` and `v:01` are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scripts.common.errors import IngotError

#: What may stand before the colon, as a regular expression.
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ID = re.compile(rf"(?P<name>{NAME}):(?P<version>0|[1-9][0-9]*)")
_DEVICE = re.compile(r"-generic-(cpu|gpu|npu)$")
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


@dataclass(frozen=True)
class ModelId:
    """`name:version`, taken apart; `alias` is what `foundry model run` and the server's load route know it by."""

    name: str
    version: int
    alias: str


def is_id(text: str) -> bool:
    """Whether Foundry Local would take this as the id of a model."""
    return _ID.fullmatch(text) is not None


def parse(text: str) -> ModelId:
    """Take a model's id apart. Raises `IngotError` where Foundry Local would refuse to register it."""
    match = _ID.fullmatch(text)
    if match is None:
        raise IngotError(
            f"model id {text!r}",
            "is not an id that Foundry Local takes",
            "Use letters, digits, '.', '_' and '-', starting with a letter or digit, then ':' and a whole number "
            "without leading zeros, such as triage-int4-generic-cpu:1",
        )
    return ModelId(match["name"], int(match["version"]), _DEVICE.sub("", match["name"]))


def alias_of(text: str) -> str:
    """The alias of a name or an id, in lower case, whatever it is: models that share it may answer for each other."""
    return _DEVICE.sub("", text.partition(":")[0].casefold())


def is_folder_name(name: str) -> bool:
    """Whether a folder may be called so on every system: Windows drops a final dot, and keeps some names for devices,
    whatever follows after a dot (learn.microsoft.com, "Naming Files, Paths, and Namespaces").
    """
    return name.lower().split(".")[0] not in _WINDOWS_DEVICES and not name.endswith(".")

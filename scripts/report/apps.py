"""What apps ask for, in words: what was seen in the deployed model, and what the schema makes of its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_CLAIMS = {"supports_tool_calling": "tool calls", "supports_reasoning": "reasoning"}


def label(name: str) -> str:
    """What people call a check; the runtime's own words for what it can be told of a model are others."""
    return _CLAIMS.get(name, name)


def lines(model: dict[str, Any]) -> list[str]:
    """What is proven of each precision that the registration says, what an app should know of, and how cases held to
    the schema were answered.
    """
    found: dict[str, list[str]] = {}
    for row in model["precisions"]:
        for check in row["apps"]:
            if check["verdict"] == "warned" or (check["verdict"] == "passed" and check["name"] in _CLAIMS):
                found.setdefault(f"{label(check['name'])}: {check['told']}", []).append(row["precision"])
    told = [f"{', '.join(names)}: {line}" for line, names in found.items()]
    return [*told, *_structured(model)]


def _structured(model: dict[str, Any]) -> Iterator[str]:
    named = [("float", model["export"]["domain"]), *((row["precision"], row["domain"]) for row in model["precisions"])]
    held = [(name, domain["constrained"]) for name, domain in named if domain and domain["constrained"]]
    parts = [
        f"{name} {part['passed_free']} → {part['passed']} of {part['cases']} right, "
        f"{part['valid_free']} → {part['valid']} valid"
        for name, part in held
        if not part["error"]
    ]
    if parts:
        yield f"answers held to the schema: {'; '.join(parts)}"
    for name, part in held:
        if part["error"]:
            yield f"{name}: the runtime does not hold answers to the schema: {part['error']}"

"""Which models and precisions a section of the page is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scripts.report import across, commands
from scripts.report.node import Node


def use(model: Node) -> Node | None:
    """The deployed precision to use: the recommended one, else the first; None where none is deployed."""
    names = [row["precision"] for _, row in commands.usable([model.raw])]
    return next((row for row in model["precisions"] if row["precision"].raw in names), None)


def chosen(model: Node) -> Node | None:
    """The precision to use, deployed or not; None where none is recommended or deployed."""
    best = across.chosen(model.raw)
    return next((row for row in model["precisions"] if best and row["precision"].raw == best["precision"]), None)


def versioned(model: Node) -> list[Node]:
    """The precisions of which more than one version stands in the cache."""
    return [row for row in model["precisions"] if len(row["versions"]) > 1]


def having(model: Node, field: str) -> list[Node]:
    """The precisions that have a measurement."""
    return [row for row in model["precisions"] if row[field]]


def where(nodes: Iterable[Node], field: str, value: Any, *, otherwise: bool = False) -> list[Node]:
    """The elements whose field has that value; with `otherwise` those where it has another."""
    return [node for node in nodes if (node[field].raw == value) is not otherwise]

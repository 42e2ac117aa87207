"""A build hook of Hatchling: Ingot is used from its checkout, so a wheel is refused, and `pip install -e .` is not.

A wheel would put a package called `scripts` into somebody's environment, without the configuration that it needs.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CheckoutOnly(BuildHookInterface[Any]):
    """pyproject.toml names it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling calls this before it builds; `version` says which kind of wheel."""
        del build_data
        if version != "editable":
            raise SystemExit(
                "Ingot is used from its checkout and is not to be installed elsewhere: make, or pip install -e ."
            )

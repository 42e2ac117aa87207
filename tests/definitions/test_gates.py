"""Gates: one definition for models.toml, recipes.toml and the quality stage's own command line."""

from __future__ import annotations

import pytest

from scripts.common.errors import IngotError
from scripts.definitions.gates import parse_gates


@pytest.mark.parametrize("given", [{"kll": 1}, {"kl": "0.1"}, {"kl": True}, {"kl": -1}, {"kl": float("nan")}, [1]])
def test_what_is_not_a_gate_is_an_error(given: object) -> None:
    with pytest.raises(IngotError, match="gates"):
        parse_gates(given)


def test_an_unknown_gate_gets_a_suggestion() -> None:
    with pytest.raises(IngotError, match="Did you mean 'top1'"):
        parse_gates({"top_1": 0.9})

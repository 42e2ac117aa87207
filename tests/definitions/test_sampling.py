"""Sampling defaults: one definition for models.toml and for the package stage's own command line."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.common.errors import IngotError
from scripts.definitions.sampling import parse_sampling


def test_an_unknown_key_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(IngotError, match=r"sampling\.temprature.*Did you mean 'temperature'"):
        parse_sampling({"temprature": 0.5})


@pytest.mark.parametrize(
    "values",
    [{"temperature": -1}, {"temperature": "0.7"}, {"temperature": float("nan")}, {"temperature": 2.1}, {"top_p": 1.5},
     {"top_p": 0}, {"top_k": 0}, {"top_k": 2.5}, {"max_length": True}, {"max_length": 10**12},
     {"repetition_penalty": 0}],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(IngotError, match=rf"sampling\.{next(iter(values))}"):
        parse_sampling(values)

"""Ids of models: what Foundry Local takes, and which names can be folders everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common import model_id
from scripts.common.errors import IngotError


@pytest.mark.parametrize(
    ("text", "alias"),
    [
        ("triage-int4-generic-cpu:1", "triage-int4"),
        ("triage-int4-generic-gpu:12", "triage-int4"),
        ("Triage.v2_x:0", "Triage.v2_x"),
        ("a-generic-cpu-b:3", "a-generic-cpu-b"),
    ],
)
def test_an_id_is_taken_apart(text: str, alias: str) -> None:
    found = model_id.parse(text)
    assert (f"{found.name}:{found.version}", found.alias) == (text, alias)


@pytest.mark.parametrize(
    "text", ["", "triage", "triage:", "v:1.0", "v:01", "-v:1", "ü:1", "a b:1", "a/b:1", "v:1\n", "v:-1"]
)
def test_an_id_that_foundry_refuses_is_refused_first(text: str) -> None:
    with pytest.raises(IngotError, match="is not an id that Foundry Local takes"):
        model_id.parse(text)
    assert not model_id.is_id(text)


@given(st.text(max_size=12), st.integers(0, 10**6))
def test_an_accepted_id_is_ascii_without_separators(name: str, version: int) -> None:
    try:
        found = model_id.parse(f"{name}:{version}")
    except IngotError:
        return
    assert found.name.isascii()
    assert not set(found.name) & set(" /\\:\n\0")


@pytest.mark.parametrize("name", ["con", "Aux", "nul.x-generic-cpu", "lpt1.a", "m."])
def test_a_name_that_windows_keeps_for_a_device_cannot_be_a_folder(name: str) -> None:
    assert not model_id.is_folder_name(name)


@pytest.mark.parametrize("name", ["con-generic-cpu", "com0", "m.n", "console"])
def test_a_name_that_only_begins_like_a_device_can_be_a_folder(name: str) -> None:
    assert model_id.is_folder_name(name)

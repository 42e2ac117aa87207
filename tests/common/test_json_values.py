"""JSON values: which are equal, and how a file of JSON lines is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common import json_values
from scripts.common.errors import IngotError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_every_json_value_is_the_same_as_itself_read_back(value: object) -> None:
    assert json_values.same(value, json.loads(json.dumps(value)))


@given(VALUES, VALUES)
def test_being_the_same_is_mutual(a: object, b: object) -> None:
    assert json_values.same(a, b) == json_values.same(b, a)


@pytest.mark.parametrize(("a", "b"), [(1, True), (0, False), ("1", 1), (None, False), ([1], [True]), ({"a": 1}, {})])
def test_values_of_other_kinds_are_not_the_same(a: object, b: object) -> None:
    assert not json_values.same(a, b)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", "1 2", "[" * 100_000])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        json_values.parse(text)


def test_lines_are_given_with_their_places_and_blank_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n"x\xe2\x80\xa8y"\n')  # a byte order mark; U+2028 inside a text
    assert list(json_values.lines(path)) == [(f"{path}:1", {"a": 1}), (f"{path}:3", "x\u2028y")]


@pytest.mark.parametrize(
    ("content", "found"), [(b'{"a": 1}\n{oops', "rows.jsonl:2: not JSON"), (b"1\n\xff", "rows.jsonl:2: is not UTF-8")]
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(IngotError, match=found):
        list(json_values.lines(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=r"none\.jsonl: there is no such file"):
        list(json_values.lines(tmp_path / "none.jsonl"))

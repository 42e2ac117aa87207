from __future__ import annotations

import json
import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.cases import checks

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60)


@given(WORDS)
def test_an_answer_is_exactly_itself_whatever_surrounds_it(text: str) -> None:
    assert checks.exact(f"\n {text} ", text) is None
    assert checks.exact(text + "x", text) is not None


@given(WORDS, WORDS, WORDS)
def test_an_answer_contains_its_parts_and_matches_them(before: str, part: str, after: str) -> None:
    text = before + part + after
    assert checks.contains(text, [part, before, after]) is None
    assert checks.regex(text, re.escape(part)) is None
    assert checks.contains(text, [text + "!"]) is not None


@given(WORDS, st.integers(1, 100))
def test_the_length_is_counted_in_characters(text: str, most: int) -> None:
    assert (checks.max_chars(text, most) is None) == (len(text) <= most)


@given(st.dictionaries(st.text(), VALUES))
def test_an_object_has_its_own_fields(value: dict[str, object]) -> None:
    assert set(checks.fields(json.dumps(value), value).values()) <= {None}


@given(WORDS, st.dictionaries(st.text(), VALUES, min_size=1))
def test_fields_of_anything_are_told_without_raising(text: str, wanted: dict[str, object]) -> None:
    assert checks.fields(text, wanted).keys() == wanted.keys()


def test_a_wrong_or_missing_field_is_told_with_both_values() -> None:
    found = checks.fields('{"category": "billing"}', {"category": "account", "priority": "low"})
    assert found == {"category": "is 'billing', expected 'account'", "priority": "is not there, expected 'low'"}


SCHEMA = jsonschema.Draft202012Validator(
    {"type": "object", "required": ["a"], "properties": {"a": {"enum": ["x", "y"]}}, "additionalProperties": False}
)


@pytest.mark.parametrize("text", ['{"a": "x"}', ' {"a":"y"}\n'])
def test_valid_json_is_valid(text: str) -> None:
    assert checks.schema(text, SCHEMA) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": "x"} Hope this helps!', "is not JSON"),
        ('```json\n{"a": "x"}\n```', "is not JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": "z"}', "breaks the schema at $.a"),
        ('{"b": 1}', "breaks the schema at $"),
        ("", "is not JSON"),
    ],
)
def test_what_is_not_just_valid_json_is_told(text: str, found: str) -> None:
    assert found in str(checks.schema(text, SCHEMA))


@given(
    st.text(alphabet="abcdefghij ,.", max_size=50),
    st.text(alphabet="abcdefghij ,.", min_size=1, max_size=30).filter(str.strip),
    st.integers(4, 8),
    st.integers(0, 29),
)
def test_a_stretch_that_comes_four_times_in_a_row_is_a_loop(before: str, unit: str, times: int, cut: int) -> None:
    times = max(times, -(-checks.LOOP_LENGTH // len(unit)) + 1)
    # A letter at its end, so that stripping white space takes nothing off the last repetition.
    text = before + (unit + "x") * times + (unit + "x")[: cut % len(unit)]
    assert checks.no_loop(text) is not None


@given(st.text(max_size=checks.LOOP_LENGTH - 1))
def test_what_is_short_is_no_loop(text: str) -> None:
    assert checks.no_loop(text) is None


@given(st.text(alphabet="ab ", max_size=120))
def test_a_loop_is_found_exactly_where_brute_force_finds_one(text: str) -> None:
    end = text.rstrip()
    expected = any(
        all(end[-1 - i] == end[-1 - i - period] for i in range(length - period))
        for period in range(1, len(end) // checks.LOOP_TIMES + 1)
        if (length := max(checks.LOOP_TIMES * period, checks.LOOP_LENGTH)) <= len(end)
    )
    assert (checks.no_loop(text) is not None) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Plans: 1. Read. 2. Write. 3. Read again what you wrote, then write what you read, and rest.",
        '{"category": "billing", "priority": "high", "product": "mobile app", "tags": ["a", "b", "a", "b"]}',
    ],
)
def test_ordinary_answers_are_no_loop(text: str) -> None:
    assert checks.no_loop(text) is None


def test_a_long_answer_is_searched_for_loops_in_no_time() -> None:
    assert checks.no_loop("ab" * 200_000 + "c" * 10) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I can\u2019t assist you with this request.",
        "Sorry, I am not able to provide that information.",
        "I must decline.",
        "As an AI language model, I cannot do such things.",
        "That would be against our policy.",
        "I won't answer this.",
    ],
)
def test_refusals_are_told(text: str) -> None:
    assert checks.refusal(text, True) is None
    assert checks.refusal(text, False) is not None


@pytest.mark.parametrize(
    "text",
    [
        "The capital of France is Paris.",
        "You can't divide by zero, so the limit is taken instead.",
        "Sorry for the delay! Your parcel is on its way.",
        "I can help you with that.",
        '{"category": "account", "answer": "the user cannot log in"}',
    ],
)
def test_answers_are_no_refusals(text: str) -> None:
    assert checks.refusal(text, False) is None
    assert checks.refusal(text, True) is not None

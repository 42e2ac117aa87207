"""Calls of tools: what an app is given as one counts, and whatever a model makes of one fails that case alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.cases import cases, checks, schemas
from scripts.common import json_values

RIGHT = {"city": "Rome"}


def _tool(name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name} | ({"parameters": parameters} if parameters else {})}


WEATHER = _tool("weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
PAY = _tool("pay", {"properties": {"sum": {"multipleOf": 0.01}}})
TREE = _tool("tree", {"additionalProperties": {"$ref": "#"}, "uniqueItems": True})
TOOLS = (WEATHER, PAY, TREE, _tool("time"))


def _judged(text: str, calls: Sequence[tuple[str, str]], name: str, arguments: dict[str, Any]) -> list[str]:
    expect = cases.Expect(call=cases.Call(name, arguments))
    case = cases.Case("a", ({"role": "user", "content": "x"},), 8, expect, tools=TOOLS)
    return cases.judge(case, text, None, calls)


@pytest.mark.parametrize(
    ("calls", "failure"),
    [
        ([("weather", '{"city": "Rome"}')], None),
        ([("weather", '{"city": "Oslo"}'), ("weather", '{"city": "Rome", "unit": "C"}')], None),
        ([("weather", '{"city": "Oslo"}')], "not weather with"),
        ([("weather", '{"city": 7}')], "arguments that are not valid"),
        ([("weather", "Rome")], "arguments that are not an object"),
        ([("weather", "null")], "arguments that are not an object"),
        ([("time", "oops")], "arguments that are not an object"),
        ([("time", "null")], "arguments that are not an object"),
        ([("pay", '{"sum": 1e400}')], "arguments that are not valid"),
        ([("wether", '{"city": "Rome"}')], "is not among its tools"),
        ([], "calls no tool, but says 'It rains.'"),
    ],
)
def test_a_call_is_of_the_right_tool_with_valid_arguments(calls: list[tuple[str, str]], failure: str | None) -> None:
    found = _judged("" if calls else "It rains.", calls, "weather", RIGHT)
    assert [failure in line for line in found] == ([True] if failure else [])


def test_a_call_that_is_only_written_is_none() -> None:
    (failure,) = _judged(json.dumps([{"name": "weather", "arguments": RIGHT}]), [], "weather", RIGHT)
    assert failure.startswith("call: calls no tool, but says ")


def test_an_argument_that_must_be_null_must_be_given() -> None:
    assert _judged("", [("time", "{}")], "time", {"zone": None})
    assert not _judged("", [("time", '{"zone": null}')], "time", {"zone": None})


WORDS = st.text(st.characters())  # halves of surrogate pairs too
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**400, 0.01]) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sum", "city"]) | WORDS, inner),
    max_leaves=6,
)
ARGUMENTS = st.builds(json.dumps, VALUES) | st.text() | st.sampled_from(["", "[" * 9999, '{"sum": 1e400}', "NaN"])
NAMES = st.sampled_from(["weather", "time", "pay", "tree"]) | st.text()


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3))
def test_whatever_is_called_is_judged_and_can_be_written_down(calls: list[tuple[str, str]]) -> None:
    msgspec.json.encode(_judged("", calls, "pay", {"sum": 1}))


@settings(derandomize=True, deadline=None)
@given(ARGUMENTS, st.sampled_from([tool["function"].get("parameters", {}) for tool in TOOLS]))
def test_whatever_is_said_is_held_to_a_schema_and_can_be_written_down(text: str, schema: dict[str, Any]) -> None:
    msgspec.json.encode(
        [checks.schema(text, schemas.validator(schema)), checks.fields(text, {"sum": json_values.DEEPEST})]
    )

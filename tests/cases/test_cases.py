from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.cases import cases
from scripts.common.errors import IngotError

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"name": "weather", "arguments": {"city": "Rome"}}
GOOD: dict[str, Any] = {"id": "t-1", "prompt": "Where is it?", "expect": {"contains": ["here"]}}


def _load(folder: Path, *rows: Any) -> list[cases.Case]:
    path = folder / "cases.jsonl"
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return cases.load(path)


def test_a_case_is_parsed_whole(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    expect = {"schema": True, "fields": {"a": 1}, "regex": "^h", "max_chars": 9, "refusal": False, "no_loop": True}
    row = {"id": "x", "messages": messages, "max_tokens": 7, "labels": {"b": None}, "expect": expect}
    (case,) = _load(tmp_path, row)
    assert case.messages == tuple(messages)
    assert case.max_tokens == 7
    assert case.labels == {"a": 1, "b": None}
    assert case.expect == cases.Expect(
        schema=True, fields={"a": 1}, regex="^h", max_chars=9, refusal=False, no_loop=True
    )


def test_a_prompt_is_one_message_of_the_user_and_the_answer_has_48_tokens(tmp_path: Path) -> None:
    (case,) = _load(tmp_path, GOOD)
    assert case.messages == ({"role": "user", "content": "Where is it?"},)
    assert case.max_tokens == 48


@pytest.mark.parametrize(
    ("row", "where", "found"),
    [
        ("{nonsense", "", "not JSON"),
        ("[1]", "", "expected a table"),
        (GOOD | {"id": 7}, "id", "expected text"),
        (GOOD | {"ID": "x"}, "ID", "unknown key"),
        (GOOD | {"expect": {}}, "expect", "expects nothing"),
        (GOOD | {"expect": {"exakt": "x"}}, "expect.exakt", "Did you mean 'exact'"),
        (GOOD | {"expect": {"regex": "("}}, "expect.regex", "not a regular expression"),
        (GOOD | {"expect": {"contains": "x"}}, "expect.contains", "expected a list"),
        (GOOD | {"expect": {"max_chars": 0}}, "expect.max_chars", "0 is out of range. Give a whole number from 1"),
        (GOOD | {"expect": {"refusal": "no"}}, "expect.refusal", "expected true or false"),
        (GOOD | {"max_tokens": 0}, "max_tokens", "0 is out of range. Give a whole number from 1"),
        (GOOD | {"messages": []}, "prompt or messages", "both are given"),
        ({"id": "x", "expect": {"exact": "y"}}, "prompt or messages", "neither"),
        (
            {"id": "x", "messages": [{"role": "tool", "content": ""}]},
            "messages[1].role",
            "'tool' is not allowed. Allowed:",
        ),
        ({"id": "x", "messages": [{"role": "system", "content": ""}]}, "messages", "not the user's"),
        (GOOD | {"labels": {"a": 1}, "expect": {"fields": {"a": 2}}}, "labels.a", "contradicts"),
        (GOOD | {"id": "first"}, "id", "is the id of line 1"),
        (GOOD | {"expect": {"call": CALL}}, "expect.call.name", "'weather' is not among the case's tools"),
        (
            GOOD | {"tools": [WEATHER], "expect": {"call": {"name": "wether"}}},
            "expect.call.name",
            "Did you mean 'weather'?",
        ),
        (GOOD | {"tools": [WEATHER, WEATHER]}, "tools[1].function.name", "is the name of two"),
        (GOOD | {"tools": [{"type": "function"}]}, "tools[1].function", "is missing"),
        (
            GOOD | {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "objekt"}}}]},
            "tools[1].function.parameters",
            "is not a JSON schema",
        ),
        (
            GOOD | {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"$ref": "#/$defs/b"}}}]},
            "tools[1].function.parameters",
            "refers to '#/$defs/b', which is not in it",
        ),
    ],
)
def test_a_mistake_names_file_line_and_key(tmp_path: Path, row: Any, where: str, found: str) -> None:
    with pytest.raises(IngotError) as error:
        _load(tmp_path, GOOD | {"id": "first"}, "", row)
    place = f"{tmp_path / 'cases.jsonl'}:3"
    assert str(error.value).startswith(f"{place}: {where}" if where else place)
    assert found in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff"])
def test_a_file_without_cases_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cases.jsonl").write_bytes(content)
    with pytest.raises(IngotError, match=r"cases\.jsonl"):
        cases.load(tmp_path / "cases.jsonl")


def test_unicode_line_separators_stay_inside_a_case(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps(GOOD | {"prompt": "a\u2028b"}, ensure_ascii=False), encoding="utf-8")
    assert cases.load(path)[0].messages[0]["content"] == "a\u2028b"


def test_an_empty_answer_fails_unless_it_is_asked_for(tmp_path: Path) -> None:
    (loop, silent) = _load(tmp_path, GOOD | {"expect": {"no_loop": True}}, GOOD | {"id": "b", "expect": {"exact": ""}})
    assert cases.judge(loop, " ", None) == ["the answer is empty"]
    assert cases.judge(silent, " ", None) == []


def test_all_expectations_must_hold_and_each_failure_is_told(tmp_path: Path) -> None:
    (case,) = _load(tmp_path, GOOD | {"expect": {"contains": ["here"], "regex": "x$", "max_chars": 6}})
    assert cases.judge(case, "here x", None) == []
    assert len(cases.judge(case, "nowhere at all", None)) == 2


def test_a_case_that_asks_for_a_schema_needs_one(tmp_path: Path) -> None:
    _load(tmp_path, GOOD | {"expect": {"schema": True}})
    with pytest.raises(IngotError, match=r"cases\.jsonl: case 't-1' asks for .* evaluation\.schema in models\.toml"):
        cases.load_without_schema(tmp_path / "cases.jsonl")


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ('{"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}', True),
        ('{"$id": "https://x.example/s", "$ref": "#/$defs/a", "$defs": {"a": {}}}', True),
        ('{"$ref": "#/$defs/b", "$defs": {"a": {}}}', False),
        ('{"$ref": "https://elsewhere.example/schema.json"}', False),
        ("[" * 100_000, False),
        ("{", False),
    ],
)
def test_a_schema_is_whole_when_it_is_read(tmp_path: Path, text: str, sound: bool) -> None:
    path = tmp_path / "answer.schema.json"
    path.write_text(text, encoding="utf-8")
    if sound:
        assert cases.load_schema(path).is_valid("x")
        return
    with pytest.raises(IngotError, match=r"answer\.schema\.json"):
        cases.load_schema(path)


def test_a_schema_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answer.schema.json"
    path.write_text('{"type": "objekt"}', encoding="utf-8")
    with pytest.raises(IngotError, match=r"answer\.schema\.json: is not a JSON schema"):
        cases.load_schema(path)


def test_what_asks_for_no_call_has_the_digest_that_it_had(tmp_path: Path) -> None:
    """An accepted report holds it: without `tools` nothing of what is compared has changed."""
    assert cases.digest(_load(tmp_path, GOOD), None)[:16] == "aac89a491fcd0f4f"

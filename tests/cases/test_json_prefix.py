"""An answer may be ended where no JSON begins like it: then nothing that it could go on with is scored otherwise."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scripts.cases import cases as parsing
from scripts.cases import checks
from scripts.cases.json_prefix import JsonPrefix
from scripts.common.json_values import parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.builds(json.dumps, VALUES, indent=st.sampled_from([None, 1]), ensure_ascii=st.booleans())
NEARLY = st.text(alphabet='{}[]:," \n\\u0123e-+.truefalsn', max_size=12)
ANYTHING = jsonschema.Draft202012Validator(True)


def begins_json(text: str) -> bool:
    return JsonPrefix().feed(text)


@given(st.text(" \t\n\r", max_size=3), DOCUMENTS)
def test_every_document_begins_with_each_of_its_prefixes(space: str, document: str) -> None:
    prefix = JsonPrefix()
    assert all(map(prefix.feed, space + document + space))


@given(NEARLY | st.builds(str.__add__, DOCUMENTS, NEARLY) | st.builds(str.__add__, NEARLY, DOCUMENTS))
@example("1e5")
@example("-0.5")
def test_what_json_is_read_from_is_never_ended(text: str) -> None:
    try:
        parse(text)
    except ValueError:
        return
    assert all(begins_json(text[:end]) for end in range(len(text) + 1))


@given(st.text(max_size=20) | NEARLY, st.text(max_size=20) | NEARLY | DOCUMENTS)
@example("To", " solve this, a JSON object follows: {}")
@example("```", 'json\n{"kind": "a"}\n```')
@example('{"kind": "a",}', "")
def test_whatever_follows_an_ended_answer_changes_nothing_of_its_score(begun: str, rest: str) -> None:
    end = next((end for end in range(len(begun) + 1) if not begins_json(begun[:end])), None)
    if end is None:
        return
    expect = parsing.Expect(schema=True, fields={"kind": "a"}, contains=("To",))
    case = parsing.Case("a", ({"role": "user", "content": "x"},), 8, expect, {"kind": "a", "callback": False})
    for text in (begun[:end], begun + rest):
        assert checks.schema(text, ANYTHING) is not None
        assert not any(failure is None for failure in checks.fields(text, case.labels).values())
        assert parsing.judge(case, text, ANYTHING)
        assert parsing.judge(parsing.as_json(case), text, ANYTHING)


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        ("I'm sorry", "I"), ("```json", "`"), ("<think>", "<"), ("\ufeff{}", "\ufeff"), ("\u00a0{}", "\u00a0"),
        ('"kind": "a"', '"kind":'), ("1. First", "1. "), ("01", "01"), ("NaN", "N"), ("-Infinity", "-I"),
        ("trust", "trus"), ("{kind: 1}", "{k"), ('{"a" 1}', '{"a" 1'), ('{"a": 1,}', '{"a": 1,}'), ("[1,]", "[1,]"),
        ('{"a": 1}\n Done', '{"a": 1}\n D'), ('"a\nb"', '"a\n'), (r'"\x41"', r'"\x'), (r'"\u12g4"', r'"\u12g'),
        ("[1}", "[1}"),
    ],
)  # fmt: skip
def test_an_answer_is_ended_at_the_first_character_that_no_json_has_there(said: str, ended: str) -> None:
    assert next(said[:end] for end in range(len(said) + 1) if not begins_json(said[:end])) == ended


def test_a_case_decides_whether_an_answer_must_be_json() -> None:
    def must(validator: jsonschema.protocols.Validator | None = None, **expect: object) -> bool:
        expected = parsing.Expect(**expect)  # type: ignore[arg-type]
        return parsing.must_be_json(parsing.Case("a", (), 8, expected, {"kind": "a"}), validator)

    assert must(ANYTHING, schema=True, no_loop=True)
    assert must(fields={"kind": "a"}, contains=("a",))
    assert not must(schema=True)
    assert not must(ANYTHING, fields={})
    assert not must(ANYTHING, contains=("{",), regex="a", exact="{}", refusal=False)

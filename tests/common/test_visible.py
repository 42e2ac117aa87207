"""Strangers' words as they are shown: nothing hidden, no line or markup of theirs, and nothing dropped."""

from __future__ import annotations

import json
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from scripts.common import visible
from scripts.common.errors import IngotError
from scripts.results.remarks import Remark

#: Format characters that show: signs of Arabic and Kaithi that stand before or around numbers.
SHOWN = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd"
WORDS = st.text(st.characters(categories=["L", "N", "P", "S", "Z", "C"]))
#: What markup is made of.
MARKS = st.sampled_from([*"\\`*_[]()<>|~$&#+-=:.!1a; \n", "://", "&lt;", "www."])


def test_every_sign_that_unicode_calls_hidden_is_shown_by_number() -> None:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    hidden = [chr(n) for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n)) in kinds]
    left = {sign for sign in hidden if sign in visible.visible(sign)}
    assert left == {"\n", "\t", *SHOWN}


@given(WORDS)
def test_a_line_is_one_line_and_says_all(text: str) -> None:
    told = visible.line(text)
    assert told.splitlines() in ([], [told])
    assert all(sign in told for sign in text if sign.isalnum())


def read_as_markdown(text: str) -> list[str]:
    """What another's reader of Markdown finds in a text: the kinds of its parts."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [part.type for token in tokens for part in (token, *(token.children or ()))]


@given(WORDS | st.lists(MARKS).map("".join))
def test_markdown_is_text_wherever_it_stands(text: str) -> None:
    told = visible.markdown(text)
    for before in ("", "- ", "a\n\n"):
        found = set(read_as_markdown(f"{before}{told}"))
        lists = (
            {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"} if before == "- " else set()
        )
        assert found - lists <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}, told
    assert [sign for sign in told if sign.isalnum()] == [sign for sign in visible.line(text) if sign.isalnum()]


@pytest.mark.parametrize("text", ["https://e.example", "www.e.example", "HTTP://E.example", "$a$"])
def test_what_only_github_marks_up_is_left_text_too(text: str) -> None:
    told = visible.markdown(text)
    assert not re.search(r"(?<!\\)(:(?=//)|\$)|www\.", told)


@given(WORDS)
def test_code_ends_where_it_should(text: str) -> None:
    told = visible.code(text)
    fence = re.match("`+", told)[0]
    assert told.endswith(fence) and fence not in re.findall("`+", told[len(fence) : -len(fence)])
    assert "\n" not in told and "|" not in told


@given(st.recursive(WORDS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner)))
def test_json_says_the_same_in_signs_that_show(value: object) -> None:
    told = visible.json_text(json.dumps(value, ensure_ascii=False))
    assert json.loads(told) == value
    assert told.encode("utf-8") and visible.visible(told) == told


def test_errors_and_remarks_are_one_line_each() -> None:
    hostile = "a\x1b[2J\nerror: all is well\u202e\u200b\ud800"
    for told in (str(IngotError(hostile, hostile, hostile)), Remark(hostile, hostile).text):
        assert told.isprintable(), told

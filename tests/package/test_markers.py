"""Markers of tool calls and of reasoning, read off what chat templates of the common kinds write."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AddedToken

from scripts.package import markers
from tests import tiny

_TURN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] %}{{ m['content'] }}{% endif %}"
_CALLS = (
    "{% if m['tool_calls'] %}START{% for c in m['tool_calls'] %}"
    "{\"name\": \"{{ c['function']['name'] }}\", \"arguments\": {{ c['function']['arguments'] | tojson }}}"
    "{% endfor %}END{% endif %}"
)
_END = "<|im_end|>\n{% endfor %}"


def tokenizer(template: str, *tokens: str) -> Any:
    made = tiny.make_tokenizer()
    made.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    made.chat_template = template
    return made


def calling(start: str, end: str, *tokens: str) -> Any:
    return tokenizer(_TURN + _CALLS.replace("START", start).replace("END", end) + _END, *tokens)


@pytest.mark.parametrize(("start", "end", "tokens", "expected"), [
    ("<tool_call>\n", "\n</tool_call>", ("<tool_call>", "</tool_call>"), ("<tool_call>", "</tool_call>")),
    ("[TOOL_CALLS][", "]", ("[TOOL_CALLS]",), ("[TOOL_CALLS]", "<|im_end|>")),  # the end of the turn closes them
    ("<|python_tag|>", "<|eom_id|>", ("<|python_tag|>", "<|eom_id|>"), ("<|python_tag|>", "<|eom_id|>")),
])  # fmt: skip
def test_tool_calls_are_between_the_tokens_that_the_template_writes(
    start: str, end: str, tokens: tuple[str, ...], expected: tuple[str, str]
) -> None:
    made = calling(start, end, *tokens)
    found = markers.find(made)
    assert found.call is not None
    assert tuple(made.convert_ids_to_tokens(list(found.call))) == expected
    genai: dict[str, Any] = {"model": {}}
    assert markers.publish(genai, made) == []
    assert (genai["model"]["bot_token_id"], genai["model"]["eot_token_id"]) == found.call


@pytest.mark.parametrize(("start", "end"), [("functools[", "]"), ("", "")])
def test_tool_calls_that_no_token_opens_are_told_and_not_published(start: str, end: str) -> None:
    genai: dict[str, Any] = {"model": {}}
    (said,) = markers.publish(genai, calling(start, end))
    assert "no token before and after" in said.text
    assert genai == {"model": {}}


def test_a_pair_around_all_calls_counts_and_not_the_one_around_each() -> None:
    made = calling("<calls><call>", "</call></calls>", "<calls>", "<call>", "</call>", "</calls>", '{"name":')
    found = markers.find(made).call
    assert found is not None
    assert made.convert_ids_to_tokens(list(found)) == ["<calls>", "</calls>"]


def test_a_template_without_tools_publishes_nothing_and_says_nothing() -> None:
    genai: dict[str, Any] = {"model": {}}
    assert markers.publish(genai, tokenizer(_TURN + _END)) == []
    assert genai == {"model": {}}


@pytest.mark.parametrize("template", [
    _TURN.replace("{% if m['content'] %}", "{% if m['reasoning_content'] %}[THINK]{{ m['reasoning_content'] }}[/THINK]"
                  "{% endif %}{% if m['content'] %}") + _END,
    _TURN.replace("{{ m['content'] }}", "{{ m['content'].split('[/THINK]')[-1] }}") + _END,  # drops what was thought
])  # fmt: skip
def test_reasoning_is_between_the_tokens_that_the_template_speaks_of(template: str) -> None:
    made = tokenizer(template, "[THINK]", "[/THINK]")
    found = markers.find(made).thought
    assert found is not None
    assert made.convert_ids_to_tokens(list(found)) == ["[THINK]", "[/THINK]"]

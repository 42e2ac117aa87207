"""The tokens that a chat template puts around a tool call, and around what a model thinks before it answers.

Taken from what the template renders, whatever they are called, and published as genai_config.json's `bot_token_id` and
`eot_token_id` (begin and end of tool calls), `bor_token_id` and `eor_token_id` (of reasoning): that is where Foundry
Local looks for them. onnxruntime-genai's builder (0.18) writes them too, for two spellings of tool calls and one of
reasoning, by name alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from scripts.checkpoint.tokenizer import REFUSALS
from scripts.common.genai_config import REASONING, TOOL_CALL
from scripts.package.conversations import TOOLS
from scripts.results.remarks import Remark

_NAME, _VALUE, _THOUGHT, _ANSWER = "Probe1name", "Probe2value", "Probe3thought", "Probe4answer"
_ASKED = {"role": "user", "content": "Probe0asked"}
_THINKING = re.compile("think|reason", re.IGNORECASE)


@dataclass(frozen=True)
class Markers:
    """Ids of the tokens that open and close; `call` is None where a template writes no tool calls, or `why` not."""

    call: tuple[int, int] | None
    thought: tuple[int, int] | None
    why: str = ""


def find(tokenizer: Any) -> Markers:
    """The markers of the chat template of `tokenizer`, a tokenizer of transformers."""
    call, why = _call(tokenizer)
    return Markers(call, _thought(tokenizer), why)


def publish(genai: dict[str, Any], tokenizer: Any) -> list[Remark]:
    """Put the markers into genai_config.json; returns what is to be said of them."""
    found, model, said = find(tokenizer), genai["model"], []
    for keys, ids in ((TOOL_CALL, found.call), (REASONING, found.thought)):
        for key, token in zip(keys, ids or (), strict=False):
            model[key] = token
    if found.why:
        said.append(Remark("tool calls", found.why))
    return said


def _call(tokenizer: Any) -> tuple[tuple[int, int] | None, str]:
    text = _rendered_call(tokenizer)
    if text is None:
        return None, ""
    head, _, rest = text.partition(_NAME)
    tail = rest.rpartition(_VALUE)[2]
    # Some write a pair around all calls and one around each: the outer one is meant.
    start, end = _beyond(tokenizer, head), _beyond(tokenizer, tail)[-1:] or _tokens(tokenizer, tail)
    if start and end:
        return (start[0], end[0]), ""
    written = " ".join(f"{head}…{tail}".split())[-80:]
    return None, (
        f"the chat template writes them with no token before and after ({written!r}), by which the runtime could tell "
        "them from text: a request with tools is answered with an error"
    )


def _rendered_call(tokenizer: Any) -> str | None:
    """What a template makes of an answer that calls a tool, without what begins every answer; None if nothing."""
    function = {"name": _NAME, "arguments": {"city": _VALUE}}
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function"}]}
    call["tool_calls"][0]["function"] = function  # type: ignore[index]
    for tools in (TOOLS, None):
        text = _answer(tokenizer, call, tools)
        if text and _NAME in text and _VALUE in text.partition(_NAME)[2]:
            return text
    return None


def _thought(tokenizer: Any) -> tuple[int, int] | None:
    text = _answer(tokenizer, {"role": "assistant", "content": _ANSWER, "reasoning_content": _THOUGHT}, None)
    if text and _THOUGHT in text:
        head, _, rest = text.partition(_THOUGHT)
        start, end = _tokens(tokenizer, head), _tokens(tokenizer, rest.partition(_ANSWER)[0])
        if start and end:
            return start[-1], end[0]
    return _named(tokenizer)


def _named(tokenizer: Any) -> tuple[int, int] | None:
    """A pair of tokens named after thinking, of which the template speaks: it may drop what was thought before."""
    template, vocabulary = str(tokenizer.get_chat_template()), tokenizer.get_added_vocab()
    named = [token for token in vocabulary if _THINKING.search(token)]
    for start in named:
        for end in (start.replace(start[0], f"{start[0]}/", 1), start.replace("START", "END")):
            if end != start and end in vocabulary and (start in template or end in template):
                return int(vocabulary[start]), int(vocabulary[end])
    return None


def _beyond(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text that are in no plain answer."""
    turns = [_ASKED, {"role": "assistant", "content": _ANSWER}]
    plain: list[int] = []
    with suppress(*REFUSALS):
        plain = _tokens(tokenizer, str(tokenizer.apply_chat_template(turns, tokenize=False)))
    return [token for token in _tokens(tokenizer, text) if token not in plain]


def _answer(tokenizer: Any, message: Mapping[str, Any], tools: Sequence[Mapping[str, Any]] | None) -> str | None:
    """A message of the assistant's as the template writes it, less what it writes before any answer."""
    options: dict[str, Any] = {"tools": list(tools) if tools else None, "tokenize": False}
    try:
        before = str(tokenizer.apply_chat_template([_ASKED], add_generation_prompt=False, **options))
        text = str(tokenizer.apply_chat_template([_ASKED, message], add_generation_prompt=False, **options))
        plain = [_ASKED, {"role": "assistant", "content": _ANSWER}]
        header = str(tokenizer.apply_chat_template(plain, add_generation_prompt=False, **options))
    except REFUSALS:
        return None
    begins = len(_common(before, text))
    header = header[begins:].partition(_ANSWER)[0]
    return text[begins:].removeprefix(header)


def _common(one: str, other: str) -> str:
    end = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:end]


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """Ids of the special and added tokens that a text holds, white space aside, in their order."""
    known = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    ids = tokenizer.encode(text, add_special_tokens=False)
    return [int(number) for number in ids if number in known and tokenizer.decode([number]).strip()]

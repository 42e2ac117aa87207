"""What the example's trainer learns from: conversations, JSON lines, checked once before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema.protocols import Validator

from scripts.cases import checks
from scripts.cases.cases import Case
from scripts.common import json_values
from scripts.common.errors import IngotError

_REMEDY = "Write one JSON object on each line, with `id` and `messages`"
Message = dict[str, str]


@dataclass(frozen=True)
class Example:
    """One conversation of the training file; its last message is the answer to learn."""

    name: str
    messages: list[Message]


def read_examples(path: Path, validator: Validator) -> list[Example]:
    """Read training conversations: JSON lines {"id", "messages": [{"role", "content"}…]}, the last the assistant's.

    Raises `IngotError` with file and line where a line is malformed, an id comes twice or an answer breaks the schema.
    """
    examples: dict[str, Example] = {}
    for place, entry in json_values.lines(path, _REMEDY):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            raise IngotError(place, "not an object with a text as `id`", _REMEDY)
        if entry["id"] in examples:
            raise IngotError(place, f"the id {entry['id']!r} comes twice", "Give each line an id of its own")
        messages = _messages(place, entry)
        if messages[-1]["role"] != "assistant":
            found = f"the last message is from {messages[-1]['role']!r}"
            raise IngotError(place, found, "End it with the assistant's answer")
        if fault := checks.schema(messages[-1]["content"], validator):
            raise IngotError(place, f"the answer {fault}", "Correct the answer or the schema")
        examples[entry["id"]] = Example(entry["id"], messages)
    if not examples:
        raise IngotError(path, "the file is empty", _REMEDY)
    return list(examples.values())


def _messages(place: str, entry: dict[str, Any]) -> list[Message]:
    messages = entry.get("messages")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        found = "`messages` is not a list of {role, content}"
        raise IngotError(place, found, "Write messages as chat models expect them")
    return messages


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def refuse_leaks(train: Path, examples: Sequence[Example], evaluation: Path, cases: Sequence[Case]) -> None:
    """A held-out question that was trained on would measure memory, not skill."""
    asked = {_plain(example.messages[-2]): example.name for example in examples if len(example.messages) > 1}
    for case in cases:
        if name := asked.get(_plain(case.messages[-1])):
            raise IngotError(evaluation, f"{case.id} is also {name} of {train}", "Take it out of one of them")


def _plain(message: Message) -> str:
    return " ".join(message["content"].lower().split())

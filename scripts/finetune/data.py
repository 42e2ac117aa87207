"""The example's data: conversations to learn from and held-out cases, JSON lines checked once, at the door."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from scripts.common.errors import IngotError

Message = dict[str, str]


@dataclass(frozen=True)
class Example:
    """One conversation of the training file; its last message is the answer to learn."""

    name: str
    messages: list[Message]


@dataclass(frozen=True)
class Case:
    """One held-out case: what is asked, how long the answer may be, what must hold, and what the right labels are."""

    name: str
    messages: list[Message]
    max_tokens: int
    expected: dict[str, Any]
    labels: dict[str, Any]


def read_examples(path: Path, schema: dict[str, Any]) -> list[Example]:
    """Read training conversations: JSON lines {"id", "messages": [{"role", "content"}…]}, the last the assistant's.

    Raises IngotError with file and line where a line is malformed, an id comes twice or an answer breaks `schema`.
    """
    validator = jsonschema.Draft202012Validator(schema)
    examples = []
    for where, entry in _read_lines(path):
        messages = _messages(where, entry)
        if messages[-1]["role"] != "assistant":
            raise IngotError(
                where, f"the last message is from {messages[-1]['role']!r}", "End it with the assistant's answer"
            )
        answer = messages[-1]["content"]
        try:
            fault = next(validator.iter_errors(json.loads(answer)), None)
        except ValueError:
            raise IngotError(where, f"the answer {answer!r} is not JSON", "Correct the answer") from None
        if fault:
            raise IngotError(
                where, f"the answer breaks the schema: {fault.message}", "Correct the answer or the schema"
            )
        examples.append(Example(entry["id"], messages))
    return examples


def read_cases(path: Path) -> list[Case]:
    """Read held-out cases, the format of `quality domain`, with the right answers in an extra key `labels`.

    Without `labels`, the fields that must hold (`expect.fields`) are taken for them. Raises IngotError as above.
    """
    cases = []
    for where, entry in _read_lines(path):
        expected = entry.get("expect", {}).get("fields", {})
        labels = entry.get("labels", expected)
        if not labels:
            raise IngotError(where, "neither `labels` nor `expect.fields`", "Say what the right answer is")
        if "prompt" in entry:
            entry["messages"] = [{"role": "user", "content": entry["prompt"]}]
        cases.append(Case(entry["id"], _messages(where, entry), int(entry.get("max_tokens", 48)), expected, labels))
    return cases


def _read_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every line's place, for messages, and its object; ids are checked to be there and to differ."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise IngotError(path, "there is no such file", "Give a file of JSON lines") from None
    except UnicodeDecodeError as error:
        raise IngotError(path, f"not UTF-8: {error.reason} at byte {error.start}", "Save it as UTF-8") from None
    entries, seen = [], set[str]()
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() also splits inside JSON strings
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise IngotError(where, f"not JSON: {error}", "One JSON object a line") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            raise IngotError(where, "no object with a string `id`", "One JSON object a line, with `id` and `messages`")
        if entry["id"] in seen:
            raise IngotError(where, f"the id {entry['id']!r} comes twice", "Give each line an id of its own")
        seen.add(entry["id"])
        entries.append((where, entry))
    if not entries:
        raise IngotError(path, "the file is empty", "Give at least one JSON object a line")
    return entries


def _messages(where: str, entry: dict[str, Any]) -> list[Message]:
    messages = entry.get("messages")
    ok = (
        isinstance(messages, list)
        and messages
        and all(
            isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
            for m in messages
        )
    )
    if not ok:
        raise IngotError(
            where, "`messages` is not a list of {role, content}", "Write messages as chat models expect them"
        )
    assert isinstance(messages, list)
    return messages


def read_schema(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
    except FileNotFoundError:
        raise IngotError(path, "there is no such file", "Give the JSON schema of the answers") from None
    except (ValueError, jsonschema.SchemaError) as error:
        raise IngotError(path, f"not a JSON schema: {str(error).splitlines()[0]}", "Correct the schema") from None
    assert isinstance(schema, dict)
    return schema


def refuse_leaks(train: Path, examples: Sequence[Example], evaluation: Path, cases: Sequence[Case]) -> None:
    """A held-out question that was trained on would measure memory, not skill."""
    asked = {
        " ".join(example.messages[-2]["content"].lower().split()): example.name
        for example in examples
        if len(example.messages) > 1
    }
    for case in cases:
        question = " ".join(case.messages[-1]["content"].lower().split())
        if question in asked:
            raise IngotError(
                evaluation, f"{case.name} is also {asked[question]} of {train}", "Take it out of one of them"
            )

"""Domain cases: one JSON object a line, parsed into typed cases; a mistake names file, line and key.

    {"id": "t-001", "messages": [{"role": "system", "content": "…"}, {"role": "user", "content": "…"}],
     "max_tokens": 48, "labels": {"category": "billing", "priority": "low"},
     "expect": {"schema": true, "fields": {"category": "billing"}}}

`prompt` may stand for one user message. `expect` holds at least one of: schema (true), fields, exact, contains,
regex, max_chars, refusal (true or false), no_loop (true); all that are given must hold. `labels` are right values of
fields that are counted field by field but need not hold.

`tools` are offered with the question, functions as in the OpenAI API; `expect.call` asks that one of them is called:
{"name": "get_weather", "arguments": {"city": "Paris"}}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
from msgspec import Meta, Struct, to_builtins

from scripts.cases import checks, schemas
from scripts.common import json_values
from scripts.common.errors import IngotError
from scripts.common.hashes import digest_bytes
from scripts.common.typed import key_name, parse, suggest
from scripts.common.user_files import read_json

MAX_TOKENS = 48
#: Of a regular expression, characters; of a schema, bytes: to judge that it is one takes seconds.
_LONGEST_REGEX, _LONGEST_SCHEMA = 2000, 1 << 18
#: Cases that are read: each is asked for seconds.
_MOST = 10_000
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1, title="a whole number from 1")]


class Call(Struct, forbid_unknown_fields=True, frozen=True):
    """A tool that is to be called, and arguments that it must be given; others may be given too."""

    name: str
    arguments: dict[str, Any] = {}


class Expect(Struct, forbid_unknown_fields=True, frozen=True):
    """What must hold of the answer; None (or False) asks nothing."""

    schema: bool = False
    fields: dict[str, Any] | None = None
    exact: str | None = None
    contains: tuple[Annotated[str, Meta(min_length=1, title="text")], ...] = ()
    regex: Annotated[str, Meta(max_length=_LONGEST_REGEX, title="a shorter one")] | None = None
    max_chars: _Count | None = None
    refusal: bool | None = None
    no_loop: bool = False
    call: Call | None = None


class _Function(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    name: Annotated[str, Meta(pattern=r"^[\w.-]{1,64}$", title="up to 64 letters, digits and _ - .")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(Struct, forbid_unknown_fields=True, frozen=True):
    type: Literal["function"]
    function: _Function


class _Message(Struct, forbid_unknown_fields=True, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class _Row(Struct, forbid_unknown_fields=True, frozen=True):
    """One line of a cases file."""

    id: Annotated[str, Meta(pattern=r"\S", title="each case a name of its own")]
    expect: Expect = Expect()
    prompt: str | None = None
    messages: tuple[_Message, ...] | None = None
    max_tokens: _Count = MAX_TOKENS
    labels: dict[str, Any] | None = None
    tools: tuple[_Tool, ...] = ()


@dataclass(frozen=True)
class Case:
    """One question and what its answer must be like. `labels`: right values of fields, those of `expect` included."""

    id: str
    messages: tuple[dict[str, str], ...]
    max_tokens: int
    expect: Expect
    labels: dict[str, Any] = field(default_factory=dict)
    tools: tuple[dict[str, Any], ...] = ()


def load(path: Path) -> list[Case]:
    """Parse a cases file. Raises `IngotError` naming `file:line: key`; an empty file is one too."""
    cases: dict[str, Case] = {}
    lines: dict[str, str] = {}
    for place, value in json_values.lines(path, "Write one case, a JSON object, on each line"):
        case = _case(value, place)
        if case.id in cases:
            found = f"{case.id!r} is the id of line {lines[case.id]} already"
            raise IngotError(f"{place}: id", found, "Give each its own")
        cases[case.id], lines[case.id] = case, place.rpartition(":")[2]
        if len(cases) > _MOST:
            raise IngotError(place, f"one of more than {_MOST} cases", "Keep those that tell most")
    if not cases:
        raise IngotError(path, "there is no case in it", "Write one case, a JSON object, on each line")
    return list(cases.values())


def load_without_schema(path: Path) -> list[Case]:
    """`load`, for a model that has no JSON schema of an answer: a case that asks for one is a mistake too."""
    cases = load(path)
    if asking := [case.id for case in cases if case.expect.schema]:
        found = f"case {asking[0]!r} asks for an answer that is valid by a schema, and the model has none"
        raise IngotError(path, found, "Give evaluation.schema in models.toml, or leave `schema` out of `expect`")
    return cases


def load_schema(path: Path) -> jsonschema.protocols.Validator:
    """A validator from a JSON schema file (its own `$schema`, else draft 2020-12). It never fetches a reference."""
    value = read_json(path, most=_LONGEST_SCHEMA, missing="Give the JSON schema of an answer")
    schemas.check(value, path)
    return schemas.validator(value)


def digest(cases: list[Case], schema: Any) -> str:
    """BLAKE3 of what was asked and expected: two scores are comparable where it is the same."""
    content = [
        [case.id, case.messages, case.max_tokens, _expected(case.expect), case.labels, *filter(None, [case.tools])]
        for case in cases
    ]
    text = json.dumps([content, schema], sort_keys=True, ensure_ascii=True)
    return digest_bytes(text.encode())


def _expected(expect: Expect) -> dict[str, Any]:
    """As what was asked before there were calls had it: two scores of the same cases are comparable."""
    found: dict[str, Any] = to_builtins(expect)
    return found if expect.call else {name: value for name, value in found.items() if name != "call"}


def judge(
    case: Case, text: str, validator: jsonschema.protocols.Validator | None, calls: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """Everything that an answer fails of what the case expects; empty where it passes.

    `text`: what was said; `calls`: the tools that were called, each by name and arguments (JSON, unless it is not).
    """
    if not text.strip() and not calls and case.expect.exact is None:
        return ["the answer is empty"]
    expect = case.expect
    found: list[tuple[str, str | None]] = []
    if expect.schema and validator is not None:
        found.append(("schema", checks.schema(text, validator)))
    if expect.fields is not None:
        found += [(f"field {name}", failure) for name, failure in checks.fields(text, expect.fields).items()]
    if expect.exact is not None:
        found.append(("exact", checks.exact(text, expect.exact)))
    if expect.contains:
        found.append(("contains", checks.contains(text, expect.contains)))
    if expect.regex is not None:
        found.append(("regex", checks.regex(text, expect.regex)))
    if expect.max_chars is not None:
        found.append(("max_chars", checks.max_chars(text, expect.max_chars)))
    if expect.refusal is not None:
        found.append(("refusal", checks.refusal(text, expect.refusal)))
    if expect.call is not None:
        found.append(("call", checks.call(calls, text, expect.call.name, expect.call.arguments, case.tools)))
    if expect.no_loop:
        found.append(("no_loop", checks.no_loop(text)))
    return [f"{name}: {failure}" for name, failure in found if failure]


def must_be_json(case: Case, validator: jsonschema.protocols.Validator | None) -> bool:
    """Whether an answer that is not JSON fails the case, whatever else it says."""
    return (case.expect.schema and validator is not None) or bool(case.expect.fields)


def as_json(case: Case) -> Case:
    """The case with what it expects of the answer as JSON alone, which an answer that was cut can be judged by."""
    return replace(case, expect=Expect(schema=case.expect.schema, fields=case.expect.fields))


def _case(value: Any, place: str) -> Case:
    row = parse(value, _Row, file=place)
    messages = _messages(row, place)
    labels, fields = row.labels or {}, row.expect.fields or {}
    if row.expect == Expect():
        raise IngotError(f"{place}: expect", "expects nothing, so it would always pass",
                         "Give fields, exact, contains, or the like")  # fmt: skip
    if row.expect.regex is not None:
        try:
            re.compile(row.expect.regex)
        except (re.error, RecursionError, OverflowError) as error:
            raise IngotError(f"{place}: expect.regex", f"is not a regular expression: {error}", "Correct it") from None
    tools = _tools(row, place)
    for key, right in fields.items():
        if key in labels and not json_values.same(labels[key], right):
            raise IngotError(
                f"{place}: labels.{key_name(key)}", f"{labels[key]!r} contradicts expect.fields, {right!r}"
            )
    return Case(row.id, messages, row.max_tokens, row.expect, {**labels, **fields}, tools)


def _tools(row: _Row, place: str) -> tuple[dict[str, Any], ...]:
    """The tools that are offered. Raises `IngotError` for parameters that are not a schema, and a call of none."""
    names = [tool.function.name for tool in row.tools]
    for number, tool in enumerate(row.tools, 1):
        where = f"{place}: tools[{number}].function"
        if names.count(tool.function.name) > 1:
            raise IngotError(f"{where}.name", f"{tool.function.name!r} is the name of two", "Give each its own")
        schemas.check(tool.function.parameters or {}, f"{where}.parameters")
    if row.expect.call is not None and row.expect.call.name not in names:
        found = f"{row.expect.call.name!r} is not among the case's tools"
        raise IngotError(f"{place}: expect.call.name", found, suggest(row.expect.call.name, names))
    return tuple(to_builtins(tool) for tool in row.tools)


def _messages(row: _Row, place: str) -> tuple[dict[str, str], ...]:
    if (row.prompt is None) == (row.messages is None):
        found = "neither is given" if row.prompt is None else "both are given"
        raise IngotError(f"{place}: prompt or messages", found, "Give one of them")
    if row.messages is None:
        return ({"role": "user", "content": row.prompt or ""},)
    if not row.messages or row.messages[-1].role != "user":
        raise IngotError(f"{place}: messages", "the last one is not the user's", "End with what is to be answered")
    return tuple({"role": message.role, "content": message.content} for message in row.messages)

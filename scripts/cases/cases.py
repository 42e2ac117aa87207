"""Domain cases: one JSON object a line, parsed into typed cases; a mistake names file, line and key.

    {"id": "t-001", "messages": [{"role": "system", "content": "…"}, {"role": "user", "content": "…"}],
     "max_tokens": 48, "labels": {"category": "billing", "priority": "low"},
     "expect": {"schema": true, "fields": {"category": "billing"}}}

`prompt` may stand for one user message. `expect` holds at least one of: schema (true), fields, exact, contains,
regex, max_chars, refusal (true or false), no_loop (true); all that are given must hold. `labels` are right values of
fields that are counted field by field but need not hold.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

from scripts.cases import checks
from scripts.common import json_values
from scripts.common.errors import IngotError
from scripts.common.hashes import digest_bytes
from scripts.common.toml_table import Table

ROLES = ("system", "user", "assistant")
MAX_TOKENS = 48


@dataclass(frozen=True)
class Expect:
    """What must hold of the answer; None (or False) asks nothing."""

    schema: bool = False
    fields: dict[str, Any] | None = None
    exact: str | None = None
    contains: tuple[str, ...] = ()
    regex: str | None = None
    max_chars: int | None = None
    refusal: bool | None = None
    no_loop: bool = False


@dataclass(frozen=True)
class Case:
    """One question and what its answer must be like. `labels`: right values of fields, those of `expect` included."""

    id: str
    messages: tuple[dict[str, str], ...]
    max_tokens: int
    expect: Expect
    labels: dict[str, Any] = field(default_factory=dict)


def load(path: Path) -> list[Case]:
    """Parse a cases file. Raises `IngotError` naming `file:line: key`; an empty file is one too."""
    cases: dict[str, Case] = {}
    lines: dict[str, str] = {}
    for place, value in json_values.lines(path, "Write one case, a JSON object, on each line"):
        case = _case(Table(value, Path(place), ""), place)
        if case.id in cases:
            found = f"{case.id!r} is the id of line {lines[case.id]} already"
            raise IngotError(f"{place}: id", found, "Give each its own")
        cases[case.id], lines[case.id] = case, place.rpartition(":")[2]
    if not cases:
        raise IngotError(path, "there is no case in it", "Write one case, a JSON object, on each line")
    return list(cases.values())


def load_schema(path: Path) -> jsonschema.protocols.Validator:
    """A validator from a JSON schema file (its own `$schema`, else draft 2020-12). It never fetches a reference."""
    from referencing import Registry

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        kind = jsonschema.validators.validator_for(value, default=jsonschema.Draft202012Validator)
        kind.check_schema(value)
    except FileNotFoundError:
        raise IngotError(path, "there is no such file", "Give the JSON schema of an answer") from None
    except ValueError as error:
        raise IngotError(path, f"not JSON: {error}", "Correct the schema") from None
    except jsonschema.exceptions.SchemaError as error:
        raise IngotError(path, f"is not a JSON schema: {error.message}", "Correct the schema") from None
    return kind(value, registry=Registry())  # type: ignore[call-arg,unused-ignore]


def digest(cases: list[Case], schema: Any) -> str:
    """BLAKE3 of what was asked and expected: two scores are comparable where it is the same."""
    content = [[case.id, case.messages, case.max_tokens, vars(case.expect), case.labels] for case in cases]
    text = json.dumps([content, schema], sort_keys=True, ensure_ascii=True)
    return digest_bytes(text.encode())


def judge(case: Case, text: str, validator: jsonschema.protocols.Validator | None) -> list[str]:
    """Everything that `text` fails of what the case expects; empty where it passes."""
    if not text.strip() and case.expect.exact is None:
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
    if expect.no_loop:
        found.append(("no_loop", checks.no_loop(text)))
    return [f"{name}: {failure}" for name, failure in found if failure]


def _case(table: Table, place: str) -> Case:
    name = table.take("id", str)
    if not name.strip():
        raise table.error("id", "is empty", "Give each case a name of its own")
    messages = _messages(table)
    max_tokens = table.take("max_tokens", int, MAX_TOKENS)
    if max_tokens < 1:
        raise table.error("max_tokens", f"expected at least 1, found {max_tokens}")
    labels = table.table("labels").raw()
    expect = _expect(table.table("expect"))
    for key, value in (expect.fields or {}).items():
        if key in labels and not json_values.same(labels[key], value):
            raise IngotError(f"{place}: labels.{key}", f"{labels[key]!r} contradicts expect.fields, {value!r}")
    table.done()
    return Case(name, messages, max_tokens, expect, {**labels, **(expect.fields or {})})


def _messages(table: Table) -> tuple[dict[str, str], ...]:
    keys = table.keys()
    if ("prompt" in keys) == ("messages" in keys):
        found = "both are given" if "prompt" in keys else "neither is given"
        raise table.error("prompt or messages", found, "Give one of them")
    prompt = table.maybe("prompt", str)
    rows = table.tables("messages")
    if prompt is not None:
        return ({"role": "user", "content": prompt},)
    messages = []
    for row in rows:
        role = row.take("role", str)
        if role not in ROLES:
            raise row.error("role", f"unknown role {role!r}", "Allowed: " + ", ".join(ROLES))
        messages.append({"role": role, "content": row.take("content", str)})
        row.done()
    if not messages or messages[-1]["role"] != "user":
        raise table.error("messages", "the last one is not the user's", "End with what is to be answered")
    return tuple(messages)


def _expect(table: Table) -> Expect:
    pattern = table.maybe("regex", str)
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise table.error("regex", f"is not a regular expression: {error}") from None
    most = table.maybe("max_chars", int)
    if most is not None and most < 1:
        raise table.error("max_chars", f"expected at least 1, found {most}")
    expect = Expect(
        schema=table.take("schema", bool, False),
        fields=table.table("fields").raw() or None,
        exact=table.maybe("exact", str),
        contains=table.strings("contains", []),
        regex=pattern,
        max_chars=most,
        refusal=table.maybe("refusal", bool),
        no_loop=table.take("no_loop", bool, False),
    )
    table.done()
    if expect == Expect():
        raise table.error("", "expects nothing, so it would always pass", "Give fields, exact, contains, or the like")
    return expect

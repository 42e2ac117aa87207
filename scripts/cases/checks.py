"""What an answer can be asked to satisfy. Pure functions: an answer in, None or one line on what is wrong out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema

from scripts.cases import schemas
from scripts.common.json_values import parse, same
from scripts.common.watch import computing

#: A loop is a stretch that comes this often in a row at the end, over at least so many characters in all.
LOOP_TIMES, LOOP_LENGTH = 4, 40
_TAME = "Write it without a repetition inside a repetition, or a reference to what refers to it"

_REFUSALS = re.compile(
    r"\b(?:i|we)(?:'m| am|'re| are)? (?:can(?:no|')t|can not|could not|couldn't|won't|will not|(?:un|not )able to"
    r"|not (?:allowed|permitted|in a position) to) (?:\w+ ){0,2}?(?:help|assist|provide|answer|do|comply|share|give|"
    r"discuss|fulfil|fulfill|support|create|write|tell|say|process|handle)\b"
    r"|\b(?:i must|i have to) (?:decline|refuse)\b"
    r"|\bas an? (?:ai|artificial|language model)\b.{0,80}\b(?:can(?:no|')t|not able|unable)\b"
    r"|\b(?:against|violates?) (?:my|our|the) (?:guidelines|policy|policies|rules)\b",
    re.IGNORECASE | re.DOTALL,
)


def exact(text: str, wanted: str) -> str | None:
    """The answer is `wanted`, white space around either left aside."""
    return None if text.strip() == wanted.strip() else f"is {_short(text)}, not {_short(wanted)}"


def contains(text: str, wanted: Sequence[str]) -> str | None:
    """Every one of `wanted` is in the answer, upper and lower case told apart."""
    missing = [part for part in wanted if part not in text]
    return f"does not contain {', '.join(map(_short, missing))}" if missing else None


def regex(text: str, pattern: str) -> str | None:
    """`pattern` (Python's `re`) is found somewhere in the answer."""
    with computing(f"expect.regex {_short(pattern)}", "to search an answer with it", remedy=_TAME):
        return None if re.search(pattern, text) else f"does not match {_short(pattern)}"


def max_chars(text: str, most: int) -> str | None:
    """The answer has at most that many characters (code points)."""
    return None if len(text) <= most else f"has {len(text)} characters, at most {most} are allowed"


def refusal(text: str, wanted: bool) -> str | None:
    """The answer declines (`wanted`), or does not. Told by the usual English turns of phrase near its beginning."""
    found = _REFUSALS.search(text.replace("\u2019", "'")[:300]) is not None
    if found == wanted:
        return None
    return "does not decline" if wanted else "declines to answer"


def no_loop(text: str) -> str | None:
    """The answer does not end in one stretch over and over again, the way a coarsely quantised model gets stuck.

    The stretch of p characters repeats from the end backwards over max(`LOOP_TIMES`·p, `LOOP_LENGTH`) characters at
    least; the last repetition may be cut off. Found with the Z function of the reversed text, in linear time.
    """
    end = text.rstrip()[::-1]
    for period, common in enumerate(_z(end)):
        if period and period + common >= max(LOOP_TIMES * period, LOOP_LENGTH):
            return f"ends in a loop of {_short(end[:period][::-1])}"
    return None


def call(
    calls: Sequence[tuple[str, str]], text: str, name: str, arguments: Mapping[str, Any],
    tools: Sequence[Mapping[str, Any]],
) -> str | None:  # fmt: skip
    """Tools are called, each as its parameters say, and one is `name` with `arguments`.

    `calls`: by name and arguments (JSON), as an app is given them; `text`: what is said beside them. `tools`: those
    that were offered, as in the OpenAI API. Arguments that nothing is said of may be anything valid.
    """
    if not calls:
        return f"calls no tool, but says {_short(text)}"
    known = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
    right = False
    for tool, written in calls:
        if tool not in known:
            return f"calls {_short(tool)}, which is not among its tools"
        given = _object(written)
        if given is None:
            return f"calls {tool} with arguments that are not an object: {_short(written)}"
        if _broken(schemas.validator(known[tool]), given, f"tools: {tool}: parameters"):
            return f"calls {tool} with arguments that are not valid: {_short(written)}"
        asked = {key: given[key] for key in arguments if key in given}
        right |= tool == name and same(asked, dict(arguments))
    if right:
        return None
    made = ", ".join(f"{tool} with {written}" for tool, written in calls)
    return f"calls {_short(made)}, not {name} with {_short(json.dumps(dict(arguments)))}"


def schema(text: str, validator: jsonschema.protocols.Validator) -> str | None:
    """The answer is one JSON value that is valid by the schema."""
    try:
        value = parse(text)
    except ValueError as error:
        return f"is not JSON: {error}"
    return _broken(validator, value, "evaluation.schema")


def _broken(validator: jsonschema.protocols.Validator, value: Any, of: str) -> str | None:
    """What of a value breaks the schema, which the user knows as `of`."""
    try:
        with computing(of, "to judge an answer by it", remedy=_TAME):
            wrong = jsonschema.exceptions.best_match(validator.iter_errors(value))
    except RecursionError:
        return "is nested too deeply"
    except OverflowError:  # of 1e400, and of whole numbers of hundreds of digits
        return "has a number that is too large"
    return None if wrong is None else f"breaks the schema at {_short(wrong.json_path)[1:-1]}: {_short(wrong.message)}"


def fields(text: str, wanted: Mapping[str, Any]) -> dict[str, str | None]:
    """For each field of `wanted`: None where the answer, a JSON object, has that value, else what is wrong."""
    value = _object(text)
    if value is None:
        return dict.fromkeys(wanted, "is not there: the answer is not a JSON object")
    return {
        name: f"is not there, expected {_short(right)}"
        if name not in value
        else None
        if same(value[name], right)
        else f"is {_short(value[name])}, expected {_short(right)}"
        for name, right in wanted.items()
    }


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = parse(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _z(text: str) -> list[int]:
    """z[i]: how many characters from i on equal the beginning of `text`; z[0] = 0."""
    z, left, right = [0] * len(text), 0, 0
    for i in range(1, len(text)):
        if i < right:
            z[i] = min(right - i, z[i - left])
        while i + z[i] < len(text) and text[z[i]] == text[i + z[i]]:
            z[i] += 1
        if i + z[i] > right:
            left, right = i, i + z[i]
    return z


def _short(value: Any, most: int = 100) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text if len(text) <= most else text[: most - 1] + "…")

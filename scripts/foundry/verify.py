"""Ask a deployed model, in the runtime and over HTTP, and expect the words that its package gave before.

Hashes alone prove that the files are right, not that they answer; an answer alone can come from weights that are
nearly right. So both are checked, in a fresh process, on the cache that users will open.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.cases import cases as asking
from scripts.common.errors import IngotError
from scripts.foundry import apps, ending, marks, placing, versions
from scripts.foundry import cache as caches
from scripts.foundry.writing import locked, writing
from scripts.results import base, measured
from scripts.results.domain import Domain
from scripts.results.foundry import Check, Deploy, Verify
from scripts.runtime import genai
from scripts.runtime.foundry import CLAIMS, Answer, Chat, Message, Runtime, claims_of, conversation, label

#: Asked of a model that has no cases of its own.
QUESTION = "Name three things that a baker needs in the morning."
QUESTION_TOKENS = 24
#: Of the model's cases, so many more are asked to see how answers end.
OTHERS = 2
REASONING = "supports_reasoning"


@dataclass(frozen=True)
class Expectation:
    """One question and the text that answers it; `case` is its id, None for the built-in question.

    `others` are more that the model is meant to answer, in at most so many tokens; only how those answers end is looked
    at.
    """

    messages: list[Message]
    max_tokens: int
    text: str
    case: str | None = None
    others: tuple[tuple[list[Message], int], ...] = ()


def verify(package: Path, deployed: Deploy, domain: Path | None, cases: Path | None, schema: Path | None) -> Verify:
    """Check a deployed model against its package; returns the content of verify.json.

    `deployed` is what `deploy` returned, `domain` and `cases` the answers recorded for the package and what was
    asked; without them onnxruntime-genai's greedy text is expected. Raises `IngotError` for whatever differs,
    naming what was expected and what was found.
    """
    begin = time.perf_counter()
    if deployed.path is None:
        raise IngotError(
            deployed.id, f"is not deployed: {'; '.join(deployed.reasons)}", "Deploy it first: `doit deploy`"
        )
    model_id, cache, folder = deployed.id, Path(deployed.cache), Path(deployed.path)
    expected = _recorded(domain, cases, schema) if domain and cases else None
    listed = caches.manifest_of(package)
    manifest = placing.files_of(package, listed, caches.marked_name(package / caches.MARKER) or model_id, model_id)
    print("verify: files", flush=True)
    if found := caches.differences(folder, manifest):
        raise IngotError(folder, f"is not what was deployed: {'; '.join(found)}", "Deploy it again: `doit deploy`")
    expected = expected or _greedy(package)
    try:
        print("verify: tool calls and reasoning", flush=True)
        checks = apps.prove(folder, expected.messages)
        claims = [name for name in CLAIMS if any(check.name == name and check.verdict == "passed" for check in checks)]
        expected = _as_claimed(folder, expected, claims)
        answer, end, more = _answered(deployed, expected, claims)
    except IngotError as error:
        if before := versions.fall_back(cache, model_id):
            remedy = f"{error.remedy}. {before}, the version before, is served" if error.remedy else ""
            raise IngotError(error.subject, error.found, remedy) from None
        raise
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # a cache that is read-only: verify.json tells it too
        marks.note_verified(folder, label(), now, claims)
    return Verify(
        verdict="passed",
        reasons=[],
        id=model_id,
        listed=True,
        files=len(manifest),
        case=expected.case,
        expected=expected.text,
        answer=answer.text,
        streamed=True,
        http=True,
        ended=end.ended,
        remarks=end.remarks,
        checks=[*checks, *more],
        claims=claims,
        at=now,
        seconds=round(time.perf_counter() - begin, 2),
        package=measured.digest(package),
        runtime=label(),
    )


def _as_claimed(folder: Path, expected: Expectation, claims: list[str]) -> Expectation:
    """What is expected of the model with `claims`: the same but for what is thought, which is in the text or not.

    A case's answer was recorded with all that the package may claim, onnxruntime-genai's text has all in it; that text
    is held to first. Raises `IngotError` where it differs.
    """
    recorded = claims_of(folder) if expected.case else [name for name in claims if name != REASONING]
    if (REASONING in recorded) == (REASONING in claims):
        return expected
    print("verify: answer with and without what is thought", flush=True)
    before, now = (
        apps.answered(folder, which, expected.messages, expected.max_tokens) for which in (recorded, claims)
    )  # fmt: skip
    _expect(folder, "asked", before, expected)
    return replace(expected, text=now)


def _answered(
    deployed: Deploy, expected: Expectation, claims: list[str]
) -> tuple[Answer, ending.Ending, list[Check]]:  # fmt: skip
    """The answer over every way to it, how answers end, and what else apps ask for. Raises `IngotError` for an answer
    that differs. What the model was seen to do is claimed first: reasoning is part of an answer until then.
    """
    model_id, cache, folder = deployed.id, Path(deployed.cache), Path(str(deployed.path))
    with Runtime(cache) as runtime:
        if model_id not in runtime.cached():
            raise IngotError(model_id, f"is not listed in {cache}", "Deploy it again: `doit deploy`")
        if runtime.claims(model_id) != claims:
            with writing(cache), locked(cache):
                runtime.unregister(model_id)
                runtime.register(folder, model_id, claims)
        print("verify: answer", flush=True)
        chat = runtime.load(model_id)
        answer = _ask(chat, folder, expected)
        print("verify: how answers end", flush=True)
        end = ending.judge(chat, folder, (expected.messages, expected.max_tokens), answer, expected.others)
        print("verify: answer over HTTP", flush=True)
        with runtime.serve(model_id) as url:
            http = _ask_http(url, model_id, expected)
            _expect(folder, "over HTTP", http, expected)
            print("verify: what apps ask for", flush=True)
            more = apps.check(chat, url, folder)
        runtime.unload(model_id)
        if model_id in runtime.loaded():
            raise IngotError(model_id, "stays in memory after it was unloaded", "Close what else uses it")
    return answer, end, more


def _ask(chat: Chat, folder: Path, expected: Expectation) -> Answer:
    answer = chat.complete(expected.messages, max_tokens=expected.max_tokens)
    _expect(folder, "asked", answer.text, expected)
    pieces = list(chat.stream(expected.messages, max_tokens=expected.max_tokens))
    _expect(folder, "streaming", "".join(pieces), expected)
    return answer


def _ask_http(url: str, model_id: str, expected: Expectation) -> str:
    from openai import OpenAI, OpenAIError

    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
        try:
            reply = client.chat.completions.create(
                model=model_id,
                messages=expected.messages,  # type: ignore[arg-type]  # checked when they were parsed
                max_tokens=expected.max_tokens,
                temperature=0,
            )
        except OpenAIError as error:
            raise IngotError(model_id, f"does not answer over HTTP: {error}", "Deploy it again") from error
    return reply.choices[0].message.content or ""


def _expect(folder: Path, how: str, found: str, expected: Expectation) -> None:
    if found == expected.text:
        return
    of = f"case {expected.case}" if expected.case else f"the question {QUESTION!r}"
    raise IngotError(
        folder,
        f"answers {of} differently ({how}): expected {_short(expected.text)}, found {_short(found)}",
        "Deploy it again; if that changes nothing, this runtime is not the one that the answer was recorded with",
    )


def _recorded(domain: Path, cases: Path, schema: Path | None) -> Expectation | None:
    """The recorded answer to ask for again: of the first case that the float export and this package both pass, else
    of the first that the package passes, else of the first of all; none of a case with tools, which `apps` tries by
    itself. None if nothing was recorded.

    Raises `IngotError` if an answer that passed does not meet what its case expects: it was asked otherwise.
    """
    result = base.read(domain, Domain, "Run `doit domain` again")
    won = set(result.baseline.won if result.baseline else ())
    every = asking.load(cases)
    with_tools = {case.id for case in every if case.tools}
    rows = [row for row in result.cases if row.id not in with_tools and not row.cut]
    passed = [row for row in rows if row.passed]
    chosen = next((row for row in passed if row.id not in won), next(iter(passed or rows), None))
    if chosen is None:
        return None
    case = next((case for case in every if case.id == chosen.id), None)
    if case is None:
        raise IngotError(cases, f"has no case {chosen.id!r}, whose answer was recorded", "Run `doit domain` again")
    calls = [(call.name, call.arguments) for call in chosen.calls]
    failures = asking.judge(case, chosen.text, asking.load_schema(schema) if schema else None, calls)
    if chosen.passed and failures:
        found = f"case {case.id!r} passed, but {'; '.join(failures)}"
        raise IngotError(domain, found, "Run `doit domain` again")
    rest: list[tuple[list[Message], int]] = [
        (list(other.messages), other.max_tokens) for other in every if other is not case and not other.tools
    ]
    others = tuple(rest[len(rest) * number // OTHERS] for number in range(min(OTHERS, len(rest))))
    return Expectation(list(case.messages), case.max_tokens, chosen.text, case.id, others)


def _greedy(package: Path) -> Expectation:
    """What onnxruntime-genai, without Foundry, answers to `QUESTION` when it takes the best token each time."""
    print("verify: reference answer by onnxruntime-genai", flush=True)
    messages = conversation(QUESTION)
    return Expectation(messages, QUESTION_TOKENS, genai.Model(package).greedy(messages, QUESTION_TOKENS))


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:197] + "…")

"""Cases that are asked several at a time, and answers that are ended once they can't be right any more."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from scripts.cases import cases as parsing
from scripts.common import genai_config
from scripts.quality import asking, domain
from scripts.runtime.foundry import Runtime
from tests import tiny

OBJECT = jsonschema.Draft202012Validator({"type": "object"})
#: The trained model says its sentence to whatever it is asked for.
AS_JSON = [
    parsing.Case(question, ({"role": "user", "content": question},), 24, parsing.Expect(schema=True), {"kind": "a"})
    for question, _ in tiny.FACTS
]


def test_an_answer_that_can_be_no_json_is_ended_and_scored_as_the_whole_one(export: Path) -> None:
    replies, _ = asking.ask(export, AS_JSON, OBJECT)
    answers = [answer for _, answer in tiny.FACTS]
    assert [reply.text for reply in replies[: asking.WHOLE]] == answers[: asking.WHOLE]
    assert [reply.cut for reply in replies] == [False] * asking.WHOLE + [True] * (len(answers) - asking.WHOLE)
    for reply, answer in zip(replies[asking.WHOLE :], answers[asking.WHOLE :], strict=True):
        assert answer.startswith(reply.text)
        assert 0 < len(reply.text) < len(answer)
    whole = [asking.Reply(answer) for answer in answers]
    cut, uncut = (domain.score(AS_JSON, some, OBJECT, None) for some in (replies, whole))
    assert [row.cut for row in cut.cases] == [reply.cut for reply in replies]
    assert (cut.score, cut.schema_valid, cut.fields) == (uncut.score, uncut.schema_valid, uncut.fields)
    assert [row.failures for row in cut.cases] == [row.failures for row in uncut.cases]
    again, _ = asking.ask(export, AS_JSON, OBJECT)
    assert again == replies


def test_an_answer_that_need_not_be_json_is_heard_to_its_end(export: Path) -> None:
    for expect in (parsing.Expect(contains=("x",)), parsing.Expect(fields={}), parsing.Expect(regex="{")):
        cases = [parsing.Case(case.id, case.messages, 24, expect, {"kind": "a"}) for case in AS_JSON]
        replies, _ = asking.ask(export, cases, OBJECT)
        assert [(reply.text, reply.cut) for reply in replies] == [(answer, False) for _, answer in tiny.FACTS]


def test_what_is_thought_or_called_comes_with_the_whole_answer(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = {(): ["supports_reasoning"]}  # of the package; its registration claims nothing, for it does not think
    monkeypatch.setattr("scripts.runtime.foundry.claims_of", lambda _, *which: claimed.get(which, []))
    replies, _ = asking.ask(export, AS_JSON, OBJECT)
    assert [reply.text for reply in replies] == [answer for _, answer in tiny.FACTS]


def test_all_are_heard_whole_where_one_of_the_first_begins_otherwise() -> None:
    heard = [asking.Reply(text, cut=True) for text in "abcde"]
    asking._hear_whole(heard, lambda numbers: [asking.Reply(f"{'abcde'[number]} and more") for number in numbers])
    assert [reply.cut for reply in heard] == [False, False, False, True, True]
    heard = [asking.Reply(text, cut=True) for text in "abcde"]
    asking._hear_whole(heard, lambda numbers: [asking.Reply(f"other {number}") for number in numbers])
    assert [reply.text for reply in heard] == [f"other {number}" for number in range(5)]


@pytest.mark.parametrize(("context", "at_once"), [(128, 2), (1 << 40, 1)])
def test_several_are_asked_at_once_where_their_memory_is_little(export: Path, context: int, at_once: int) -> None:
    config = genai_config.read(export)
    config["model"]["context_length"] = context
    assert asking.asked_at_once(config) == at_once


def test_answers_that_are_asked_for_at_once_are_those_asked_for_alone(export: Path) -> None:
    with Runtime() as runtime:
        runtime.register(export, "alone:1")
        chat = runtime.load("alone:1")
        alone = [chat.complete(case.messages, max_tokens=case.max_tokens).text for case in AS_JSON]
    cases = [parsing.Case(case.id, case.messages, 24, parsing.Expect(no_loop=True)) for case in AS_JSON]
    replies, _ = asking.ask(export, cases)
    assert [reply.text for reply in replies] == alone

"""Edge cases: what becomes of each reply, of a runtime that breaks, and all of them sent to a real small model."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.common.errors import IngotError
from scripts.edges import cases, edges
from scripts.edges.cases import Case, Facts, Posted, Said, body, encoded, user
from scripts.edges.clients import Server, blame
from scripts.edges.unicode_samples import samples
from scripts.foundry.deploy import deploy
from scripts.results import base
from scripts.results.foundry import EdgeCase
from tests import tiny
from tests.served import MODEL_ID

FAKE = (sys.executable, "-m", "tests.edges.fake_runtime")


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("cache"), "fake:1", command=FAKE) as server:
        yield server


def said(
    text: str, *, expected: str = "answer", limit: float = 10, promised: bool = False, rests: bool = False
) -> Case:
    return Case(f"session-{text}", text, expected, (Said(user(text), {}, limit=limit),), promised=promised, rests=rests)


def posted(text: str, *, expected: str = "answer", limit: float = 10) -> Case:
    return Case(f"http-{text}", text, expected, (Posted(encoded(body("fake:1", text)), limit=limit),))


@pytest.mark.parametrize(
    ("case", "outcome", "found", "restarts"),
    [
        (said("hello"), "passed", "answer: 'fine'", 0),
        (said("refuse", expected="refusal"), "passed", "the runtime says no", 0),
        (said("refuse"), "runtime", "the runtime says no", 0),
        (said("client"), "ingot", "Ingot's client says no", 0),
        (said("hello", expected="refusal", promised=True), "ingot", "answer", 0),
        (said("hello", expected="refusal"), "runtime", "answer", 0),
        (said("raise"), "ingot", "KeyError: 'role'", 0),
        (said("garbage"), "ingot", "garbage: <html>", 1),
        (said("crash"), "runtime", "crashed: the process ended with -11", 1),
        (said("exit"), "runtime", "crashed: the process ended with 7", 1),
        (said("hang", limit=0.5), "runtime", "hung", 1),
        (said("our-hang", limit=0.5), "ingot", "hung", 1),
        (said("busy", rests=True), "runtime", "goes on", 1),
        (posted("hello"), "passed", "answer: 'fine'", 0),
        (posted("refuse", expected="refusal"), "passed", "HTTP 400: bad", 0),
        (posted("hello", expected="refusal"), "runtime", "answer", 0),
        (posted("error", expected="refusal"), "runtime", "HTTP 500", 0),
        (posted("nonsense"), "runtime", "HTTP 200 with '[]'", 0),
        (posted("cut"), "runtime", "broken", 0),
        (posted("other"), "ingot", "other model: other:1", 0),
        (posted("crash"), "runtime", "crashed: the process ended with -11", 1),
        (posted("hang", limit=0.5), "runtime", "hung", 1),
    ],
    ids=lambda value: value.id if isinstance(value, Case) else None,
)
def test_a_fault_is_laid_on_the_right_side_and_the_next_case_is_asked(
    fake: Server, case: Case, outcome: str, found: str, restarts: int
) -> None:
    fake.start()
    before = fake.restarts
    first, second = edges.run([case, said("and then")], fake)
    assert (first.outcome, first.serves_after) == (outcome, True)
    assert found in first.found
    assert (second.outcome, second.found) == ("passed", "answer: 'fine'")
    assert fake.restarts - before == restarts


def test_a_client_that_serves_no_more_is_at_fault_if_http_still_does(fake: Server) -> None:
    (row,) = edges.run([said("worse")], fake)
    assert (row.outcome, row.serves_after) == ("ingot", False)
    assert "1 of 1 ordinary questions went wrong, answer: 'worse'" in row.found


def test_a_text_that_arrives_otherwise_than_over_http_is_ingots_fault(fake: Server) -> None:
    long = posted("the same")
    rows = edges.run([said("a"), Case("http-a", "", "answer", long.sends)], fake)
    assert [row.outcome for row in rows] == ["ingot", "passed"]
    assert "over HTTP the same text is 8 tokens, not 1" in rows[0].found


def test_a_runtime_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with Server(tmp_path, "fake:1", command=FAKE) as server, pytest.raises(IngotError, match="cannot be opened"):
        edges.run([said("hello")], server)


def test_a_stack_tells_whose_code_hung() -> None:
    root = Path(edges.__file__).parent
    child = f'  File "{root}/child.py", line 1 in main'
    sdk = '  File "/venv/lib/python3/site-packages/foundry_local_sdk/session.py", line 1 in __iter__'
    client = f'  File "{root}/chat.py", line 1 in complete'
    waiting = f'  File "{Path(json.__file__).parents[1]}/queue.py", line 1 in get'
    other = 'Thread 0x1 (most recent call first):\n  File "/x/scripts/runtime/chat.py", line 1 in y\n\n'
    assert blame(f"Timeout (0:00:01)!\n{other}Thread 0x2:\n{waiting}\n{sdk}\n{client}\n{child}") == "runtime"
    assert blame(f"Timeout (0:00:01)!\nThread 0x2:\n{waiting}\n{client}\n{child}") == "ingot"
    assert blame("") == "runtime"


def row(outcome: Any) -> EdgeCase:
    return EdgeCase(
        id=f"http-{outcome}", what="x", client="http", found="y", expected="z", outcome=outcome, serves_after=True
    )


@pytest.mark.parametrize(
    ("outcomes", "verdict", "reasons"),
    [
        (["passed", "passed"], "passed", []),
        (["passed", "runtime"], "warned", ["R 1.2 handles 1 of 2 cases wrongly: http-runtime"]),
        (["ingot"], "refused", ["http-ingot (x): y, expected: z"]),
        (["runtime", "ingot"], "refused",
         ["http-ingot (x): y, expected: z", "R 1.2 handles 1 of 2 cases wrongly: http-runtime"]),
    ],
)  # fmt: skip
def test_only_a_fault_of_ingots_refuses(outcomes: list[str], verdict: str, reasons: list[str]) -> None:
    assert edges.judged([row(outcome) for outcome in outcomes], "R 1.2") == (verdict, reasons)


FACTS = Facts("m:1", 4096, "Tell me.", 30, "Count. word", 4095, ("<|im_end|>",))


def test_every_case_has_a_name_of_its_own_and_goes_by_one_client() -> None:
    made = cases.cases(FACTS)
    assert len({case.id for case in made}) == len(made) > 100
    for case in made:
        assert case.id.startswith(f"{case.client}-")
        assert len({type(send) for send in case.sends}) == 1
        assert case.expected in ("answer", "refusal", "either")
        assert case.client == "session" or not case.promised


def test_what_may_be_ignored_is_never_waited_for() -> None:
    """A runtime that overlooks a bad max_tokens writes on to the end of its context."""
    for case in cases.cases(FACTS):
        for send in case.sends:
            if isinstance(send, Posted) and b'"max_tokens"' in send.body and b'"max_tokens": 2' not in send.body:
                assert send.leave or send.gone_after or b'"max_tokens": 1,' in send.body or b"2000000000" in send.body


def test_a_context_that_takes_a_megabyte_may_take_it() -> None:
    large = {case.id: case for case in cases.cases(Facts("m:1", 1_000_000, "Hi", 3, None, 0, ()))}
    assert large["http-megabyte"].expected == "either"
    assert "session-full" not in large


def test_every_script_that_python_knows_letters_of_is_asked() -> None:
    known, letters = samples(), "".join(samples().values())
    assert len(known) > 150
    assert all(len(text) == 6 == len(set(text)) for text in known.values())
    names = {unicodedata.name(letter).split("-")[0].split()[0] for letter in letters}
    everyday = {"LATIN", "GREEK", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "TAMIL", "THAI", "HANGUL", "HIRAGANA"}
    assert everyday | {"KATAKANA", "CJK", "GEORGIAN", "ARMENIAN", "ETHIOPIC", "TIBETAN", "KHMER", "CHEROKEE"} <= names


@pytest.fixture(scope="module")
def measured(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """edges.json of the small model, by the command line."""
    place = tmp_path_factory.mktemp("edges")
    base.write(place / "deploy.json", deploy(package, MODEL_ID, place / "cache"))
    command = [sys.executable, "-m", "scripts.edges", "run", "--package", package]
    command += ["--deployed", place / "deploy.json", "--output", place / "edges.json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((place / "edges.json").read_text())
    return found


def test_nothing_that_is_sent_to_a_real_model_finds_a_fault_of_ingots(measured: dict[str, Any]) -> None:
    assert [case for case in measured["cases"] if case["outcome"] == "ingot"] == []
    assert measured["verdict"] in ("passed", "warned")


def test_every_case_has_an_outcome_and_the_model_serves_after_it(measured: dict[str, Any]) -> None:
    for case in measured["cases"]:
        assert set(case) == {"id", "what", "client", "expected", "found", "outcome", "serves_after"}
        assert case["outcome"] in ("passed", "ingot", "runtime")
        assert case["serves_after"], case
    assert measured["runtime"].startswith("Foundry Local runtime (SDK 2.")


def test_what_becomes_of_markers_in_a_text_is_recorded(measured: dict[str, Any]) -> None:
    """The real runtime takes a marker in a user's text for the marker: one token each."""
    found = measured["markers"]
    assert set(found["tokens"]) == set(tiny.SPECIAL)
    assert found["stay_text"] == all(count > 1 for count in found["tokens"].values())


def test_a_template_that_is_known_tells_whether_a_text_can_speak_for_others(tmp_path: Path) -> None:
    template = {"user": "<u>{Content}</u>", "assistant": "<a>{Content}</a>"}
    (tmp_path / "inference_model.json").write_text(json.dumps({"Name": "m:1", "PromptTemplate": template}))
    written = edges._written(tmp_path, [("user", "Hi"), ("assistant", "Yes"), ("user", "Go")])
    assert written == "Hi</u><a>Yes</a><u>Go"
    assert edges._written(tmp_path / "none", [("user", "Hi")]) is None

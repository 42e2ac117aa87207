from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.cases import cases as parsing
from scripts.common.errors import IngotError
from scripts.quality import asking, domain, paired
from scripts.results import base
from scripts.results.domain import Answer, Baseline, Domain
from tests import tiny
from tests.quality import damage

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the trained model knows."""
    path = tmp_path_factory.mktemp("cases") / "cases.jsonl"
    rows = [
        {"id": f"f-{number}", "prompt": question, "max_tokens": 24, "expect": {"contains": [answer], "no_loop": True}}
        for number, (question, answer) in enumerate(tiny.FACTS)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_trained_model_passes_its_cases_and_a_damaged_one_is_refused(
    export: Path, cases: Path, tmp_path: Path
) -> None:
    before = domain.run(export, cases, None, None, {})
    assert before.verdict == "passed"
    assert before.score == 100.0
    assert before.runtime.startswith("Foundry Local runtime (SDK ")
    base.write(tmp_path / "domain.json", before)
    broken = damage.copy(export, tmp_path / "broken", damage.swap_layers)
    after = domain.run(broken, cases, None, tmp_path / "domain.json", {"domain_points": 5})
    assert after.verdict == "refused"
    assert after.baseline.lost == [row.id for row in after.cases if not row.passed]
    assert "the gate allows 5" in after.reasons[0]
    again = domain.run(export, cases, None, tmp_path / "domain.json", {"domain_points": 0})
    assert again.verdict == "warned"  # eight cases that both pass can't tell so small a loss
    assert again.reasons[0].startswith("too few cases to tell (8 asked): domain score is as high as the float export")
    assert again.cases == before.cases  # greedy: the same text every time


def test_where_the_float_export_is_too_large_another_precision_is_the_measure(
    export: Path, cases: Path, tmp_path: Path
) -> None:
    finest = domain.run(export, cases, None, None, {"domain_points": 3}, measure="int8")
    assert finest.verdict == "warned"
    assert finest.reasons == [
        "the float export is too large to be served here: int8 is what the others are compared with"
    ]
    base.write(tmp_path / "domain.json", finest)
    broken = damage.copy(export, tmp_path / "broken", damage.swap_layers)
    after = domain.run(broken, cases, None, tmp_path / "domain.json", {"domain_points": 5}, measure="int8")
    assert after.verdict == "refused"
    assert "points below int8's" in after.reasons[0]


def test_a_baseline_of_other_cases_is_an_error(export: Path, cases: Path, tmp_path: Path) -> None:
    few = domain.run(export, cases, None, None, {}, limit=2)
    assert len(few.cases) == 2
    assert few.cases_total == len(tiny.FACTS)
    base.write(tmp_path / "domain.json", few)
    with pytest.raises(IngotError, match=r"answers to 2 cases.*--limit"):
        domain.run(export, cases, None, tmp_path / "domain.json", {"domain_points": 5}, limit=3)


def test_a_model_that_does_not_load_is_told_in_one_line(cases: Path, tmp_path: Path) -> None:
    package = tmp_path / "a package"
    package.mkdir()
    (package / "genai_config.json").write_text("{}", encoding="utf-8")
    command = [sys.executable, "-m", "scripts.quality", "domain", "--package", package, "--cases", cases]
    done = subprocess.run(
        [*map(str, command), "--output", str(tmp_path / "out.json")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"limit": 0}, "--limit"),
        ({"gates": {"domain_points": 5}}, "needs a baseline"),
        ({"package": Path("nowhere")}, "is not a package"),
        ({"baseline": Path("nowhere.json")}, "no such file"),
        ({"cases": Path("nowhere.jsonl")}, "no such file"),
    ],
)
def test_wrong_input_is_told_before_the_runtime_starts(
    export: Path, cases: Path, change: dict[str, Any], found: str
) -> None:
    arguments = {"package": export, "cases": cases, "schema": None, "baseline": None, "gates": {}, "limit": 4} | change
    with pytest.raises(IngotError, match=found):
        domain.run(**arguments)


def test_a_case_that_expects_a_schema_needs_one(export: Path, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"id": "a", "prompt": "x", "expect": {"schema": true}}', encoding="utf-8")
    with pytest.raises(IngotError, match="Give --schema"):
        domain.run(export, path, None, None, {})


def test_fields_are_counted_one_by_one_and_pairs_told(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "required": ["kind"]}', encoding="utf-8")
    path = tmp_path / "cases.jsonl"
    rows = [
        {
            "id": str(n),
            "prompt": "x",
            "labels": {"kind": "a", "urgent": True},
            "expect": {"schema": True, "fields": {"kind": "a"}},
        }
        for n in range(4)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    answers = ['{"kind": "a", "urgent": true}', '{"kind": "a", "urgent": 1}', '{"kind": "b"}', "none"]
    rights = [Answer(id=str(n), text="", passed=n in (0, 2), failures=[]) for n in range(4)]
    before = Domain(verdict="passed", reasons=[], score=50.0, cases=rights)
    chosen, validator = parsing.load(path), parsing.load_schema(schema)
    result = domain.score(chosen, [asking.Reply(text) for text in answers], validator, before)
    assert result.score == 50.0
    assert result.schema_valid == 75.0
    assert result.fields == {"kind": 50.0, "urgent": 25.0}
    assert result.baseline == Baseline(
        score=50.0, lost=["2"], won=["1"], p_value=1.0, difference_interval=paired.difference(1, 1, 1, 1)
    )
    assert result.cases[2].failures == ["field kind: is 'b', expected 'a'"]


def _scored(score: float, baseline: Baseline | None = None, asked: int = 20, total: int = 0) -> Domain:
    return Domain(
        verdict="passed", reasons=[], score=score, baseline=baseline, cases=[], asked=asked,
        cases_total=total or asked, score_interval=paired.wilson(round(score * asked / 100), asked),
    )  # fmt: skip


def test_points_below_the_baseline_are_allowed_up_to_the_gate() -> None:
    def verdict(score: float, gates: dict[str, float]) -> str:
        return domain.judge(_scored(score, Baseline(score=90.0, lost=["a"], won=[])), gates)[0]

    assert verdict(85.0, {"domain_points": 5}) == "passed"
    assert verdict(84.9, {"domain_points": 5}) == "refused"
    assert verdict(100.0, {"domain_points": 0}) == "passed"
    assert verdict(10.0, {}) == "passed"
    assert domain.judge(_scored(50.0), {})[0] == "passed"


def _apart(both: int, lost: int, won: int, neither: int, gate: float) -> tuple[str, list[str]]:
    """The verdict on a model that loses and wins so many cases against the float export."""
    asked = both + lost + won + neither
    against = Baseline(
        score=100 * (both + lost) / asked, lost=["a"] * lost, won=["b"] * won, p_value=paired.mcnemar(lost, won),
        difference_interval=paired.difference(both, won, lost, neither),
    )  # fmt: skip
    result = _scored(100 * (both + won) / asked, against, asked, 2 * asked)
    return domain.judge(result, {"domain_points": gate})


def test_too_few_cases_to_tell_are_a_warning_and_enough_of_them_none() -> None:
    verdict, (reason,) = _apart(28, 0, 0, 4, gate=5)
    assert verdict == "warned"
    assert reason == (
        "too few cases to tell (32 asked of 64; evaluation.limit asks more): domain score is as high as the float "
        "export's (95 %: -9.91 to +9.91; 0 of 32 cases asked lost, 0 won); the gate allows 5"
    )
    assert _apart(90, 0, 0, 6, gate=5) == ("passed", [])
    assert _apart(296, 2, 2, 0, gate=5) == ("passed", [])


def test_a_refusal_says_whether_the_cases_are_enough_for_it() -> None:
    verdict, (reason,) = _apart(25, 3, 0, 4, gate=5)
    assert verdict == "refused"
    assert reason == (
        "domain score is 9.375 points below the float export's (95 %: -23.1 to +3.17; 3 of 32 cases asked lost, 0 won)"
        "; the gate allows 5; by chance alone with p = 0.25; "
        "too few cases to tell for sure (32 asked of 64; evaluation.limit asks more)"
    )
    verdict, (reason,) = _apart(10, 20, 0, 2, gate=5)
    assert verdict == "refused"
    assert "too few" not in reason


def test_a_floor_is_held_by_the_score_and_its_interval() -> None:
    assert domain.judge(_scored(100.0, asked=60), {"domain_floor": 90}) == ("passed", [])
    verdict, (reason,) = domain.judge(_scored(95.0, asked=20), {"domain_floor": 90})
    assert (verdict, reason) == (
        "warned",
        "too few cases to tell (20 asked): domain score is 95 % (95 %: 76.39 to 99.11); the gate asks for 90",
    )
    assert domain.judge(_scored(50.0), {"domain_floor": 90})[0] == "refused"


def test_cases_are_taken_from_all_over_the_file() -> None:
    cases = [parsing.Case(str(n), (), 8, parsing.Expect()) for n in range(96)]
    assert [case.id for case in domain.spread(cases, 4)] == ["0", "24", "48", "72"]
    for limit in (1, 5, 32, 95, 96, 500):
        chosen = [int(case.id) for case in domain.spread(cases, limit)]
        assert len(chosen) == min(limit, 96)
        assert chosen == sorted(set(chosen))
        gaps = {after - before for before, after in itertools.pairwise(chosen)}
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_float_model_that_fails_most_of_its_cases_is_warned_of_and_so_are_its_precisions() -> None:
    verdict, (reason,) = domain.judge(_scored(0.0, asked=3), {})
    assert (verdict, reason.partition(":")[0]) == ("warned", "it gets 0 of 3 cases asked right, fewer than half")
    verdict, (reason,) = domain.judge(
        _scored(100.0, Baseline(score=33.33, lost=[], won=["a"]), 3), {"domain_points": 5}
    )
    assert verdict == "warned"
    assert reason.startswith("the float export itself gets 1 of 3 cases asked right, fewer than half")


def test_what_is_called_is_written_apart_from_what_is_said() -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    expect = parsing.Expect(call=parsing.Call("weather"))
    case = parsing.Case("a", ({"role": "user", "content": "x"},), 8, expect, tools=(tool,))
    written = '[{"name": "weather", "arguments": {}}]'
    for reply in (asking.Reply("", calls=(("weather", "{}"),)), asking.Reply(written)):
        (row,) = domain.score([case], [reply], None, None).cases
        assert row.passed == bool(reply.calls)
        assert (row.text, [(call.name, call.arguments) for call in row.calls]) == (reply.text, [*reply.calls])


def test_an_answer_of_nothing_fails_and_counts_no_field() -> None:
    case = parsing.Case("a", ({"role": "user", "content": "x"},), 8, parsing.Expect(no_loop=True))
    for reply in (asking.Reply(""), asking.Reply(" \n"), asking.Reply("", "it stopped")):
        result = domain.score([case], [reply], None, None)
        assert (result.score, result.fields, result.schema_valid) == (0.0, {}, None)
        assert len(result.cases[0].failures) == 1

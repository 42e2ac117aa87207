from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.cases import cases as parsing
from scripts.common.errors import IngotError
from scripts.quality import domain
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
    assert again.verdict == "passed"
    assert again.cases == before.cases  # greedy: the same text every time


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
    result = domain.score(chosen, [domain.Reply(text) for text in answers], validator, before)
    assert result.score == 50.0
    assert result.schema_valid == 75.0
    assert result.fields == {"kind": 50.0, "urgent": 25.0}
    assert result.baseline == Baseline(score=50.0, lost=["2"], won=["1"], p_value=1.0)
    assert result.cases[2].failures == ["field kind: is 'b', expected 'a'"]


def _scored(score: float, baseline: Baseline | None = None, asked: int = 20) -> Domain:
    return Domain(verdict="passed", reasons=[], score=score, baseline=baseline, cases=[], asked=asked)


def test_points_below_the_baseline_are_allowed_up_to_the_gate() -> None:
    def verdict(score: float, gates: dict[str, float]) -> str:
        return domain.judge(_scored(score, Baseline(score=90.0, lost=["a"], won=[])), gates)[0]

    assert verdict(85.0, {"domain_points": 5}) == "passed"
    assert verdict(84.9, {"domain_points": 5}) == "refused"
    assert verdict(100.0, {"domain_points": 0}) == "passed"
    assert verdict(10.0, {}) == "passed"
    assert domain.judge(_scored(50.0), {})[0] == "passed"


def test_a_float_model_that_fails_most_of_its_cases_is_warned_of_and_so_are_its_precisions() -> None:
    verdict, (reason,) = domain.judge(_scored(0.0, asked=3), {})
    assert (verdict, reason.partition(":")[0]) == ("warned", "it gets 0 of 3 cases asked right, fewer than half")
    verdict, (reason,) = domain.judge(
        _scored(100.0, Baseline(score=33.33, lost=[], won=["a"]), 3), {"domain_points": 5}
    )
    assert verdict == "warned"
    assert reason.startswith("the float export itself gets 1 of 3 cases asked right, fewer than half")


def test_the_interval_of_a_score_is_that_of_its_few_cases() -> None:
    assert domain.wilson(25, 32) == [61.25, 88.98]
    assert domain.wilson(0, 3) == [0.0, 56.15]
    assert domain.wilson(3, 3) == [43.85, 100.0]


def test_a_refusal_tells_how_likely_chance_alone_is() -> None:
    pairs = Baseline(score=100.0, lost=["a", "b", "c"], won=[], p_value=domain.mcnemar(3, 0))
    verdict, (reason,) = domain.judge(_scored(90.62, pairs, asked=32), {"domain_points": 5})
    assert verdict == "refused"
    assert reason == (
        "domain score is 9.38 points below the float export; the gate allows 5 "
        "(3 of 32 cases asked lost, 0 won; by chance alone with p = 0.25)"
    )


def test_chance_is_that_of_the_binomial_test() -> None:
    assert [domain.mcnemar(*pair) for pair in ((0, 0), (1, 1), (1, 0), (6, 0), (0, 6))] == [1, 1, 1, 0.03125, 0.03125]
    assert domain.mcnemar(12, 3) == pytest.approx(0.035156, abs=1e-6)  # as in the textbooks' tables
    assert domain.mcnemar(0, 5000) == 0
    for lost in range(12):
        for won in range(12):
            flips = range(2 ** (lost + won)) if lost + won < 9 else ()
            far = [abs(2 * flip.bit_count() - lost - won) >= abs(lost - won) for flip in flips]
            assert not far or domain.mcnemar(lost, won) == pytest.approx(sum(far) / len(far), abs=1e-6)


def test_an_answer_of_nothing_fails_and_counts_no_field() -> None:
    case = parsing.Case("a", ({"role": "user", "content": "x"},), 8, parsing.Expect(no_loop=True))
    for reply in (domain.Reply(""), domain.Reply(" \n"), domain.Reply("", "it stopped")):
        result = domain.score([case], [reply], None, None)
        assert (result.score, result.fields, result.schema_valid) == (0.0, {}, None)
        assert len(result.cases[0].failures) == 1

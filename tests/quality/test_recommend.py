from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.quality.gates import VERDICTS
from scripts.quality.recommend import GOOD, from_files, recommend
from scripts.results import base
from scripts.results.base import Outcome

RESULTS = st.builds(
    lambda verdict, why: Outcome(verdict=verdict, reasons=why), st.sampled_from(VERDICTS), st.just(["why"])
)
ORDERS = st.permutations(["int4", "int8", "fp16", "mine"]).flatmap(
    lambda names: st.integers(0, 4).map(lambda n: list(names[:n]))
)
PASSED = Outcome(verdict="passed", reasons=[])


def _refused(reason: str) -> Outcome:
    return Outcome(verdict="refused", reasons=[reason])


@given(
    ORDERS, st.dictionaries(st.sampled_from(["int4", "int8", "fp16", "mine"]), st.lists(RESULTS, max_size=3)), RESULTS
)
def test_the_first_in_the_users_order_that_passed_everything_is_chosen(
    order: list[str], verdicts: dict[str, list[Outcome]], export: Outcome
) -> None:
    good = [
        name
        for name in order
        if export.verdict in GOOD and verdicts.get(name) and all(result.verdict in GOOD for result in verdicts[name])
    ]
    result = recommend(order, verdicts, export)
    assert result.recommended == (good[0] if good else None)
    assert list(result.precisions) == order
    assert {name for name in order if result.precisions[name].verdict in GOOD} == set(good)
    for name in order:
        if name not in good:
            assert result.precisions[name].reasons


@given(ORDERS, RESULTS)
def test_a_refused_export_leaves_nothing_to_recommend(order: list[str], _: Outcome) -> None:
    result = recommend(order, {name: [PASSED] for name in order}, _refused("KL 0.4 is above 0.001"))
    assert result.recommended is None
    for name in order:
        assert result.precisions[name] == _refused("export: KL 0.4 is above 0.001")


def test_the_reasons_tell_why_this_and_why_not_those_before() -> None:
    result = recommend(["int4", "int8"], {"int4": [_refused("too far"), PASSED], "int8": [PASSED]}, PASSED)
    assert result.recommended == "int8"
    assert result.reasons == [
        "int8 passed every gate and is the first choice of those that passed",
        "int4 was refused: too far",
    ]


def test_a_domain_refusal_is_enough() -> None:
    result = recommend(["int4"], {"int4": [PASSED, _refused("9 points below")]}, PASSED)
    assert result.recommended is None


def test_files_are_matched_to_precisions_and_markers_count(tmp_path: Path) -> None:
    base.write(tmp_path / "quality.json", PASSED)
    base.write(tmp_path / "int4" / "quality.json", PASSED)
    json_files.write(tmp_path / "int4" / ".ingot" / "quality.failed.json", {"verdict": "failed", "reasons": ["broke"]})
    base.write(tmp_path / "int8" / "quality.json", PASSED)
    marker = tmp_path / "fp16" / ".ingot" / "quality.failed.json"
    json_files.write(marker, {"verdict": "skipped", "reasons": ["quantize failed"]})
    base.write(tmp_path / "elsewhere.json", _refused("domain"))
    quality = [str(tmp_path / "int4" / "quality.json"), str(tmp_path / "int8" / "quality.json"), str(marker)]
    order = ["int8", "int4", "fp16", "lost"]
    result = from_files(tmp_path / "quality.json", quality, [f"int8={tmp_path / 'elsewhere.json'}"], order)
    assert {name: entry.verdict for name, entry in result.precisions.items()} == {
        "int8": "refused",
        "int4": "failed",
        "fp16": "skipped",
        "lost": "skipped",
    }


def test_a_file_of_no_precision_is_an_error(tmp_path: Path) -> None:
    base.write(tmp_path / "quality.json", PASSED)
    with pytest.raises(IngotError, match="does not belong to a precision"):
        from_files(tmp_path / "quality.json", [str(tmp_path / "int3" / "quality.json")], [], ["int4"])

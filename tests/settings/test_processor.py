"""Keys hold the processor's kind of vectors where bytes depend on it, and nowhere else: the rest is shared by all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.common.machine import instruction_set
from scripts.settings.recipes import PROJECT_CONFIG, read_recipes


@pytest.mark.parametrize(("name", "sums"), [
    ("fp16", False), ("int8", False), ("int4", True), ("int4-best", True), ("int4-small", True),
])  # fmt: skip
def test_what_fits_floats_depends_on_the_processor_and_what_rounds_does_not(name: str, sums: bool) -> None:
    assert read_recipes(PROJECT_CONFIG).sound[name].sums_floats is sums


def test_a_pass_of_olives_own_may_sum_anything(tmp_path: Path) -> None:
    (tmp_path / "recipes.toml").write_text('[mine]\npasses = [{ type = "OnnxBlockWiseRtnQuantization" }]\n')
    assert read_recipes(tmp_path).sound["mine"].sums_floats


def test_the_class_is_one_of_few() -> None:
    assert re.fullmatch(r"\w+ (x86_64( avx2| avx512)?( a\w+)*|arm64 (neon|sve)( a\w+| i8mm)*)", instruction_set())

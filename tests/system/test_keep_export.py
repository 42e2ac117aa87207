"""`keep_export = false`: the float export's weights go, nothing is stale, and a new precision brings them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.conftest import settings
from tests.system.project import Project

PLACES = ("facts/export/model.onnx.data", "facts/package/model.onnx.data")


@pytest.mark.long
def test_the_exports_weights_go_and_a_new_precision_has_them_built_again(project: Project, weights: Path) -> None:
    settings(project, weights, precisions=["int8"], keep_export=False, deploy="none")
    ran = project.doit("quality", "domain")
    assert ran.code == 0, ran.out
    assert not any((project.build / place).exists() for place in PLACES)
    assert not list(project.build.glob("store/*/model.onnx.data"))[2:], "of int8 and its package alone"
    assert project.doit("quality", "domain").steps == frozenset()
    settings(project, weights, precisions=["int8", "fp16"], keep_export=False, deploy="none")
    told = project.doit("why", "quality:facts-fp16").out
    assert "export:facts  (" in told and "quantize:facts-fp16 needs it" in told
    ran = project.doit("quality:facts-fp16")
    assert ran.code == 0, ran.out
    assert ran.steps == {"export:facts", "quantize:facts-fp16", "quality:facts-fp16"}
    assert not any((project.build / place).exists() for place in PLACES)
    assert project.doit("quality").steps == frozenset()


def test_a_whole_build_exports_once_and_a_second_makes_nothing(project: Project, weights: Path) -> None:
    settings(project, weights, precisions=["int8", "fp16"], keep_export=False, deploy="none")
    ran = project.doit()
    assert ran.code == 0, ran.out
    assert len([line for line in ran.out.splitlines() if "export:facts" in line and "built" in line]) == 1, ran.out
    assert not any((project.build / place).exists() for place in PLACES)
    again = project.doit()
    assert again.code == 0 and again.steps == frozenset() and "removed" not in again.out, again.out

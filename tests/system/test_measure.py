"""On a machine that can't serve the float export, the finest precision is what the others are compared with."""

from __future__ import annotations

from pathlib import Path

from scripts.common import kv_cache
from scripts.common.json_files import read
from tests.system.conftest import settings
from tests.system.project import Project


def test_the_finest_precision_is_the_measure_and_the_report_says_so(project: Project, weights: Path) -> None:
    size = (weights / "model.safetensors").stat().st_size
    cache = (kv_cache.bytes_per_token(read(weights / "config.json")) or 0) * 4096
    room = 1 + (1.5 * size + cache) / 2**30  # GiB: more than 8 bits take by the estimate, less than float32
    settings(project, weights, limits={"domain": {"memory_gib": room}}, deploy="none")
    ran = project.doit("domain:facts-int4", "domain:facts-int8")
    assert ran.code == 0, ran.out
    assert "domain:facts" not in ran.steps and "package:facts" not in ran.steps
    assert "int8 is what the others are compared with" in " ".join(project.json("facts/int8/domain.json")["reasons"])
    assert project.json("facts/int4/domain.json")["baseline"]["precision"] == "int8"
    assert project.doit("domain:facts-int4").steps == frozenset()

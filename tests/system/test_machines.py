"""A model built on two workers, one killed while it quantises: the same manifests as of a build on one machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.dask import Dask, kill
from tests.faults import forked
from tests.system.project import ROOT, Project
from tests.system.test_team import TASKS, manifests


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    (tmp_path / "dask").mkdir()
    made = Dask(tmp_path / "dask")
    try:
        made.work()
        made.work()
        yield made
    finally:
        made.stop()


def configured(folder: Path, weights: Path, extra: str = "") -> Project:
    project = Project(folder)
    own = shutil.copytree(weights, folder / "own weights")
    project.models(
        {"name": "facts", "source": {"path": own}, "precisions": ["int8"], "evaluation": project.facts()}, extra=extra
    )
    return project


@pytest.mark.long
@pytest.mark.needs("distributed")
def test_a_worker_killed_while_it_quantises_changes_no_byte(dask: Dask, tmp_path: Path, weights: Path) -> None:
    (tmp_path / "mnt").mkdir()
    team = f'[store]\nurl = "{(tmp_path / "mnt").as_uri()}"\n[executor]\ndask = "{dask.address}"\n'
    project = configured(tmp_path / "one", weights, team)
    doit = subprocess.Popen(
        project.command("-n", "2", *TASKS), cwd=ROOT, env=project.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    forked.wait_for(lambda: dask.at("quantize:facts-int8") is not None or doit.poll() is not None, 300)
    number = dask.at("quantize:facts-int8")
    assert number is not None, doit.communicate()[0]
    kill(dask.workers[number])
    said = doit.communicate(timeout=400)[0]
    assert doit.returncode == 0 and "building it here" not in said, said
    for step in ("reference:facts", "export:facts", "quantize:facts-int8", "package:facts-int8", "quality:facts-int8"):
        assert any(line.startswith(f"✓ {step} ") and " on tcp:" in line for line in said.splitlines()), said
    assert not list((tmp_path / "mnt").rglob("*.part"))
    alone = configured(tmp_path / "alone", weights)
    ran = alone.doit(*TASKS)
    assert ran.code == 0, ran.out
    assert manifests(project) == manifests(alone) and len(manifests(alone)) >= 5

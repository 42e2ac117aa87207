"""A report as runs of MLflow, read back by MLflow itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.report import tracking
from tests.report import results

pytestmark = pytest.mark.needs("mlflow")


@pytest.fixture
def build(tmp_path: Path) -> Path:
    made = results.make_build(tmp_path / "build")
    json_files.write(made / "report" / "report.json", results.collected(made))
    (made / "report" / "report.md").write_text("# report", encoding="utf-8")
    (made / "triage" / "int8" / "attested").mkdir()
    (made / "triage" / "int8" / "attested" / "bom.cdx.json").write_text("{}", encoding="utf-8")
    return made


def runs(uri: str) -> tuple[Any, dict[str, Any]]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("ingot")
    return client, {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


@pytest.mark.parametrize("store", ["sqlite", "file"])
def test_each_precision_is_a_run_with_its_figures_and_papers_and_made_once(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db" if store == "sqlite" else (tmp_path / "runs").as_uri()
    assert tracking.export(build / "report", build, uri, "ingot") == (4, 0)
    assert tracking.export(build / "report", build, uri, "ingot") == (0, 4)
    client, found = runs(uri)
    assert set(found) == {"triage-float", "triage-int4", "triage-int8", "triage-fp16"}
    int8 = found["triage-int8"]
    assert int8.data.metrics["quality.kl"] == 0.004 and int8.data.metrics["performance.tg128"] == 61.23
    assert int8.data.metrics["performance.time_to_first_token_ms.p50"] == 310.5
    assert int8.data.params["precision"] == "int8" and int8.data.tags["deployed"] == "triage-int8-generic-cpu:1"
    assert int8.data.tags["recommended"] == "True" and found["triage-int4"].data.tags["verdict"] == "refused"
    assert found["triage-fp16"].info.status == "FAILED" and "disk full" in found["triage-fp16"].data.tags["reasons"]
    names = {file.path for part in ("report", "package") for file in client.list_artifacts(int8.info.run_id, part)}
    assert names == {"report/report.json", "report/report.md", "package/bom.cdx.json"}
    assert {path.name for path in tmp_path.iterdir()} <= {"build", "mlflow.db", "mlartifacts", "runs"}


@pytest.mark.parametrize("uri", ["ftp://user:secret@nowhere/x", "http://user:secret@127.0.0.1:9"])
def test_a_store_that_cannot_be_used_is_one_line_without_a_password(build: Path, uri: str) -> None:
    with pytest.raises(IngotError) as caught:
        tracking.export(build / "report", build, uri, "ingot")
    assert "secret" not in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_without_a_report_it_is_said_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="Make it first: doit"):
        tracking.export(tmp_path, tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "ingot")

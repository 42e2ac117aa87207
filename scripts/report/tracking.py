"""A report as runs of MLflow: one for each precision and each float export, with its figures and what tells of it.

Written for mlflow-skinny 3.17.2, through `MlflowClient` alone, so nothing of this process's own state counts. A run is
made once: the digest of what it holds is one of its tags, and whoever exports the same report again makes none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.common.errors import IngotError
from scripts.common.hashes import digest_bytes
from scripts.common.model_files import BOM, CARD, STATEMENT
from scripts.common.secrets import redacted
from scripts.common.visible import line
from scripts.results import base
from scripts.results.metric import of
from scripts.results.report import SECTIONS, Report

_FORMS = ("report.json", "report.md", "index.html")
_PAPERS = (CARD, BOM, STATEMENT)
_DIGEST = "ingot.digest"
#: No telemetry, no lines of its own; a server that can't be reached is given up after seconds, by default minutes.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
#: MLflow takes texts of tags up to this length.
_MOST = 500


def export(report: Path, build: Path, uri: str, experiment: str) -> tuple[int, int]:
    """Make runs of a report, of the folder `build`, in the experiment of that name; how many are new, and how many were
    there.

    Raises `IngotError` where MLflow is not installed or its store can't be used, or there is no report.
    """
    if not (report / "report.json").is_file():
        raise IngotError(report, "has no report", "Make it first: doit")
    told = base.plain(base.read(report / "report.json", Report, "Make the report again: doit"))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ModuleNotFoundError:
        raise IngotError("mlflow", "is not installed", "pip install -e '.[team]'") from None
    new = there = 0
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        number = _experiment(client, uri, experiment)
        for name, run in _runs(told):
            if _is_there(client, number, run[_DIGEST]):
                there += 1
                continue
            _make(client, number, name, run, [*(report / form for form in _FORMS), *_papers(build, run)])
            new += 1
    except (mlflow.exceptions.MlflowException, OSError) as error:
        remedy = "Correct the address, or the credentials in the environment"
        raise IngotError(redacted(uri), line(redacted(str(error)))[:300], remedy) from None
    return new, there


def _experiment(client: Any, uri: str, name: str) -> str:
    """The number of an experiment, made where there is none; of a local database, with its files beside that."""
    if known := client.get_experiment_by_name(name):
        return str(known.experiment_id)
    file = uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else ""
    beside = (Path(file).absolute().parent / "mlartifacts").as_uri() if file else None
    return str(client.create_experiment(name, artifact_location=beside))


def _is_there(client: Any, number: str, digest: str) -> bool:
    return bool(client.search_runs([number], f"tags.`{_DIGEST}` = '{digest}'", max_results=1))


def _runs(report: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to call a run, and what it is to hold."""
    for model in report["models"]:
        for row in ({**model["export"], "precision": ""}, *model["precisions"]):
            settings = {
                key: value for key, value in (model["settings"] or {}).items() if key not in ("recipes", "gates")
            }
            run = {
                "model": model["name"], "precision": row["precision"], "verdict": row["verdict"],
                "reasons": line("; ".join(row["reasons"])), "recommended": model["recommended"] == row["precision"],
                "deployed": (row.get("deployed") or {}).get("id"), "settings": settings,
                "metrics": dict(_metrics(row)),
            }  # fmt: skip
            digest = digest_bytes(json.dumps(run, sort_keys=True).encode())
            yield f"{model['name']}-{row['precision'] or 'float'}", {**run, _DIGEST: digest}


def _metrics(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The figures by section and name; of percentiles each, of what was not measured none."""
    for section, kind in SECTIONS.items():
        values = row if not section else row.get(section) or {}
        for name in of(kind):
            value = values.get(name)
            parts = value if isinstance(value, dict) else {"": value}
            for part, number in parts.items():
                if isinstance(number, int | float):
                    yield ".".join(filter(None, (section, name, part))), float(number)


def _papers(build: Path, run: Mapping[str, Any]) -> list[Path]:
    folder = build / run["model"] / run["precision"] / "attested"
    return [folder / name for name in _PAPERS] if run["precision"] else []


def _make(client: Any, number: str, name: str, run: Mapping[str, Any], files: list[Path]) -> None:
    tags = {
        key: str(run[key])[:_MOST] for key in ("verdict", "reasons", "recommended", "deployed") if run[key] is not None
    }
    made = client.create_run(number, run_name=name, tags=tags).info.run_id
    for key in ("model", "precision"):
        client.log_param(made, key, run[key] or "float")
    for key, value in run["settings"].items():
        client.log_param(made, key, (value if isinstance(value, str) else json.dumps(value))[:_MOST])
    for key, value in run["metrics"].items():
        client.log_metric(made, key, value)
    for file in files:
        if file.is_file():
            client.log_artifact(made, str(file), "package" if file.name in _PAPERS else "report")
    client.set_terminated(made, "FAILED" if run["verdict"] == "failed" else "FINISHED")
    client.set_tag(made, _DIGEST, run[_DIGEST])  # last: what was cut short is made again

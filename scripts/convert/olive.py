"""The one door to Olive: a workflow in, a folder with a model out, an exception when there is no model.

Olive's command exits 0 without a model on truncated weights or an unsupported architecture (seen with 0.13.0), so this
looks at what came out, and takes the reason from Olive's own log. Its cache key leaves out tool versions and confuses
models (microsoft/Olive#1936): every call gets a fresh cache.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.common import quiet
from scripts.common.errors import IngotError
from scripts.convert import options
from scripts.convert.imports import uncollected

#: Written by Olive beside the model; holds absolute paths and times, and no model needs it.
LITTER = (
    "model_config.json", "footprint.json", "output_footprint.json", "pareto_frontier_footprint.json",
    "run_history.txt", "input_model_metrics.json", "metrics.json",
)  # fmt: skip

#: Of a user's workflow, what is ours to say, at the top or under "engine".
_OURS = (
    "output_dir", "cache_dir", "cache_config", "clean_cache", "clean_evaluation_cache", "enable_shared_cache",
    "packaging_config", "log_to_file", "workflow_id",
)  # fmt: skip
#: What an entry under "passes" says beside its options.
_PASS_KEYS = ("type", "config", "host", "evaluator")
_Passes = list[tuple[str, dict[str, Any]]]


def systems(target: str) -> dict[str, Any]:
    """Olive's words for "run here, for this execution provider"."""
    device, provider = options.TARGETS[target]
    accelerators = [{"device": device, "execution_providers": [provider]}]
    return {
        "systems": {"local_system": {"type": "LocalSystem", "config": {"accelerators": accelerators}}},
        "host": "local_system",
        "target": "local_system",
    }


def from_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Olive's input model for a Hugging Face folder."""
    return {"type": "HfModel", "task": "text-generation", "model_path": str(checkpoint.resolve())}


def from_onnx(folder: Path) -> dict[str, Any]:
    """Olive's input model for an ONNX GenAI folder; the files beside the model travel with it."""
    skip = {"model.onnx", "model.onnx.data", "manifest.json", "provenance.json"}
    beside = sorted(str(path.resolve()) for path in folder.iterdir() if path.name not in skip)
    return {
        "type": "ONNXModel",
        "model_path": str(folder.resolve()),
        "onnx_file_name": "model.onnx",
        "model_attributes": {"additional_files": beside},
    }


def adopt(workflow: Any, input_model: dict[str, Any]) -> dict[str, Any]:
    """A user's workflow with its input model, output and cache replaced by ours; everything else as it stands.

    Raises `IngotError` where it is no workflow, or asks for what would be lost.
    """
    if not isinstance(workflow, dict) or not isinstance(workflow.get("passes"), dict) or not workflow["passes"]:
        raise IngotError("recipe: olive", "has no passes", 'Give a whole Olive workflow, with "passes"')
    adopted: dict[str, Any] = json.loads(json.dumps(workflow))
    theirs = adopted.get("input_model", {})
    if (theirs.get("config") or theirs).get("adapter_path"):
        found = "names an adapter, which the builder would not merge"
        raise IngotError("recipe: olive: input_model: adapter_path", found, "Give it as the model's adapters")
    for table in (adopted, adopted.get("engine", {})):
        for key in _OURS:
            table.pop(key, None)
    adopted["input_model"] = input_model
    return adopted


def needs_unlinked(workflow: dict[str, Any]) -> bool:
    """Whether a pass of Olive's own reads the ONNX model: onnx 1.23 refuses external data with several hard links,
    as an attack (`load_external_data`). Ours read the file themselves.
    """
    kinds = [step.get("type") for _, step in _steps(workflow, "recipe")]
    return workflow["input_model"]["type"].lower() == "onnxmodel" and any(kind not in options.PASSES for kind in kinds)


def check(workflow: dict[str, Any], subject: str = "recipe") -> None:
    """Refuse, before anything heavy is imported, passes that nobody knows and wrong options of ours."""
    for name, step in _steps(workflow, subject):
        options.check_pass(f"{subject}: passes: {name}", step.get("type"), _options_of(step))


def run(workflow: dict[str, Any], scratch: Path) -> Path:
    """Run `workflow` and return the folder below `scratch` that holds its ONNX model and the files beside it.

    Raises `IngotError` with Olive's own reason when no model came out.
    """
    check(workflow)
    quiet.silence()
    os.environ["TQDM_DISABLE"] = "1"  # its progress bars go to a log
    output, cache = scratch / "olive", Path(tempfile.mkdtemp(prefix="cache-", dir=scratch))
    prepared = {"log_severity_level": 2, **workflow, "output_dir": str(output), "cache_dir": str(cache)}
    with _listening() as heard:
        with uncollected():
            from olive.package_config import OlivePackageConfig
            from olive.workflows import run as run_olive

            from scripts.convert import builder_pass, passes  # noqa: F401  (Olive finds them by name; keys, by this line)

        _check_olive_options(prepared, OlivePackageConfig.model_validate(options.package_config()))
        before = tempfile.tempdir
        try:
            run_olive(prepared, package_config=options.package_config(), tempdir=str(cache))
        except IngotError:
            raise
        except Exception as error:
            raise _failure(error, heard) from error
        finally:
            tempfile.tempdir = before  # Olive sets it for the whole process, to a folder that goes
    described = output / "model_config.json"
    if not described.exists():
        raise _failure(None, heard)
    if json.loads(described.read_text(encoding="utf-8")).get("type", "").lower() != "onnxmodel":
        raise IngotError("olive", "the workflow's last pass makes no single ONNX model", "End it with one that does")
    for name in LITTER:
        (output / name).unlink(missing_ok=True)
    return output


def _steps(workflow: dict[str, Any], subject: str) -> _Passes:
    found: _Passes = []
    for name, value in workflow["passes"].items():
        for step in value if isinstance(value, list) else [value]:
            if not isinstance(step, dict) or not isinstance(step.get("config", {}) or {}, dict):
                raise IngotError(f"{subject}: passes: {name}", f"expected a table, found {step!r}", 'Give "type"')
            found.append((name, step))
    return found


def _options_of(step: dict[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in step.items() if key not in _PASS_KEYS}, **(step.get("config") or {})}


def _check_olive_options(workflow: dict[str, Any], package: Any) -> None:
    """Refuse unknown options of Olive's own passes, which Olive ignores; have them write weights beside the graph.

    Olive's ONNX passes put everything into one file unless told otherwise, and protobuf ends at 2 GB.
    """
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    for name, step in _steps(workflow, "recipe"):
        kind = step["type"]
        if kind in options.PASSES:
            continue
        known = package.import_pass_module(kind.lower()).default_config(DEFAULT_CPU_ACCELERATOR)
        options.check_known(f"recipe: passes: {name}", kind, _options_of(step), known)
        if {"save_as_external_data", "external_data_name"} <= set(known):
            beside = {"save_as_external_data": True, "external_data_name": "model.onnx.data"}
            step["config"] = {**beside, **_options_of(step)}
            for key in [key for key in step if key not in _PASS_KEYS]:
                del step[key]


def _failure(error: BaseException | None, heard: list[logging.LogRecord]) -> IngotError:
    """The reason in one line: our own error if one is at the bottom of it, else the last that Olive logged."""
    causes = [error] if error else []
    causes += [record.exc_info[1] for record in reversed(heard) if record.exc_info and record.exc_info[1]]
    for cause in causes:
        if isinstance(cause, IngotError):
            return cause
    if causes:
        reason = f"{type(causes[0]).__name__}: {causes[0]}"
    else:
        spoken = [record.getMessage() for record in heard if not record.getMessage().startswith("No output model")]
        reason = spoken[-1] if spoken else "it gave no reason"
    reason = " ".join(reason.split())
    return IngotError("olive", f"ended without a model: {reason[:600]}", "The log above has the details")


@contextmanager
def _listening() -> Iterator[list[logging.LogRecord]]:
    """Collect what Olive logs as a notice or worse."""
    heard: list[logging.LogRecord] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    ear, logger = Ear(logging.INFO), logging.getLogger("olive")
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)

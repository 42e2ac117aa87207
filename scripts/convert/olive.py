"""The adapter of Olive: a workflow in, a folder with a model out, an exception when there is no model.

`builder_pass`, `passes` and `pass_options` are its other half, which Olive itself imports. Measured with olive-ai
0.13.0, the newest at that time. What is bridged here, until a later release does it itself:
- Olive ends well without a model, on truncated weights or an unsupported architecture: what came out is looked at, and
  the reason taken from Olive's own log.
- Its cache key leaves out tool versions and confuses models (microsoft/Olive#1936): every call gets a fresh cache.
- It ignores options that it does not know: they are refused.
- Its ONNX passes write one file unless told otherwise, and protobuf ends at 2 GB: they are told.
- It sets `tempfile.tempdir` for the whole process, to a folder that goes: what it was before is put back.
- It copies what the last pass wrote from its cache: it is linked, so that a model takes its disk once.
- It sends a first message home in spite of its own switch: see `scripts.common.quiet`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from scripts.common import quiet
from scripts.common.errors import IngotError
from scripts.common.imports import uncollected
from scripts.common.manifest import NOT_CONTENT
from scripts.common.model_files import GRAPH, GRAPH_DATA
from scripts.convert import options
from scripts.definitions.builder import check_known
from scripts.definitions.passes import PASSES, graph_for
from scripts.definitions.workflow import PASS_KEYS, options_of, steps
from scripts.definitions.workflow import check as check_workflow

#: Written by Olive beside the model; holds absolute paths and times, and no model needs it.
LITTER = (
    "model_config.json", "footprint.json", "output_footprint.json", "pareto_frontier_footprint.json",
    "run_history.txt", "input_model_metrics.json", "metrics.json",
)  # fmt: skip

#: Of a user's workflow, what the build says, at the top or under "engine".
_OF_THE_BUILD = (
    "output_dir", "cache_dir", "cache_config", "clean_cache", "clean_evaluation_cache", "enable_shared_cache",
    "packaging_config", "log_to_file", "workflow_id",
)  # fmt: skip


def systems(target: str) -> dict[str, Any]:
    """Olive's words for "run here, for this execution provider"."""
    device, provider = options.TARGETS[graph_for(target)]
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
    skip = {GRAPH, GRAPH_DATA, *NOT_CONTENT}
    beside = sorted(str(path.resolve()) for path in folder.iterdir() if path.name not in skip)
    return {
        "type": "ONNXModel",
        "model_path": str(folder.resolve()),
        "onnx_file_name": GRAPH,
        "model_attributes": {"additional_files": beside},
    }


def adopt(
    workflow: dict[str, Any], input_model: dict[str, Any], *, trust: bool = False, target: str = "cpu"
) -> dict[str, Any]:
    """A user's workflow with its input model, output and cache replaced by the build's; everything else unchanged.

    Raises `IngotError` where it is not a workflow, or asks for what would be lost.
    """
    check_workflow(workflow, trust=trust, where="recipe.olive", target=target)
    adopted: dict[str, Any] = json.loads(json.dumps(workflow))
    for table in (adopted, adopted.get("engine") or {}):
        for key in _OF_THE_BUILD:
            table.pop(key, None)
    adopted["input_model"] = input_model
    return adopted


def needs_unlinked(workflow: dict[str, Any]) -> bool:
    """Whether a pass of Olive's own reads the ONNX model: onnx 1.23 refuses external data with several hard links,
    as an attack (`load_external_data`). Ingot's own read the file themselves.
    """
    kinds = [step.get("type") for _, step in steps(workflow, where="recipe")]
    return workflow["input_model"]["type"].lower() == "onnxmodel" and any(kind not in PASSES for kind in kinds)


def run(workflow: dict[str, Any], scratch: Path, passes: Callable[[], None]) -> Path:
    """Run `workflow` and return the folder below `scratch` that holds its ONNX model and the files beside it.

    `passes` imports those of Ingot's passes that the workflow may name. Olive finds them by name; it is by this import
    that the key of a step tells which of them it runs.
    Raises `IngotError` with Olive's own reason when no model came out.
    """
    quiet.silence()
    os.environ["TQDM_DISABLE"] = "1"  # its progress bars go to a log
    output, cache = scratch / "olive", Path(tempfile.mkdtemp(prefix="cache-", dir=scratch))
    prepared = {"log_severity_level": 2, **workflow, "output_dir": str(output), "cache_dir": str(cache)}
    with _listening() as heard:
        with uncollected():
            from olive.package_config import OlivePackageConfig
            from olive.workflows import run as run_olive

            passes()
        known = options.package_config(step.get("type") for _, step in steps(workflow, where="recipe"))
        _check_olive_options(prepared, OlivePackageConfig.model_validate(known))
        before = tempfile.tempdir
        try:
            with _linking(cache):
                run_olive(prepared, package_config=known, tempdir=str(cache))
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
    shutil.rmtree(cache)  # the model's files have no other name from here on
    for name in LITTER:
        (output / name).unlink(missing_ok=True)
    return output


def _check_olive_options(workflow: dict[str, Any], package: Any) -> None:
    """Refuse unknown options of Olive's own passes, which Olive ignores; have them write weights beside the graph.

    Olive's ONNX passes put everything into one file unless told otherwise, and protobuf ends at 2 GB.
    """
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    for name, step in steps(workflow, where="recipe"):
        kind = step["type"]
        if kind in PASSES:
            continue
        known = package.import_pass_module(kind.lower()).default_config(DEFAULT_CPU_ACCELERATOR)
        check_known(f"recipe: passes: {name}", kind, options_of(step), known)
        if {"save_as_external_data", "external_data_name"} <= set(known):
            beside = {"save_as_external_data": True, "external_data_name": GRAPH_DATA}
            step["config"] = {**beside, **options_of(step)}
            for key in [key for key in step if key not in PASS_KEYS]:
                del step[key]


def _failure(error: BaseException | None, heard: list[logging.LogRecord]) -> IngotError:
    """The reason in one line: Ingot's own error if one is at the bottom of it, else the last that Olive logged."""
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
def _linking(cache: Path) -> Iterator[None]:
    """Have Olive link the files of `cache`, which go with it, where it would copy them; others it copies as before."""
    from olive import resource_path

    def link(source: str, target: str) -> str:
        if Path(source).is_symlink() or not Path(source).resolve().is_relative_to(cache.resolve()):
            return str(shutil.copy2(source, target))
        try:
            os.link(source, target)
        except OSError:  # a file system without hard links
            return str(shutil.copy2(source, target))
        return target

    copy_dir = resource_path.copy_dir
    resource_path.copy_dir = partial(copy_dir, copy_function=link)
    try:
        yield
    finally:
        resource_path.copy_dir = copy_dir


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

"""Checkpoint → float ONNX GenAI folder: one per model and execution provider, the source of every precision."""

from __future__ import annotations

import importlib
import tempfile
from functools import partial
from pathlib import Path

from scripts.convert import olive, preflight
from scripts.convert.folder import finish
from scripts.definitions.passes import EXPORTERS, check_target, module_of


def export(checkpoint: Path, output: Path, provider: str = "cpu", exporter: str | None = None) -> None:
    """Write the folder `output`. For cpu the graph is float32; for others float16, which their kernels compute in.
    `exporter`: who makes the graph, `builder` or `mobius`; None: the one that makes this family.

    Raises `IngotError` for a checkpoint that cannot be exported and for a model that does not load and generate.
    """
    check_target(provider, "--provider")
    chosen = preflight.checkpoint(checkpoint, exporter)
    precision = "fp32" if provider == "cpu" else "fp16"
    kind = EXPORTERS[chosen]
    workflow = {
        "input_model": olive.from_checkpoint(checkpoint),
        **olive.systems(provider),
        "passes": {chosen: {"type": kind, **({"precision": precision} if chosen == "builder" else {})}},
    }
    print(f"export: building {precision} for {provider} by {chosen}", flush=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=output.parent) as scratch:
        finish(olive.run(workflow, Path(scratch), partial(_load, kind)), output, provider, checkpoint)


def _load(kind: str) -> None:
    importlib.import_module(module_of(kind))

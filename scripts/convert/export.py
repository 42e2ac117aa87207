"""Checkpoint → float ONNX GenAI folder: one per model and execution provider, the source of every precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

from scripts.convert import olive, preflight
from scripts.convert.folder import finish
from scripts.definitions.passes import check_target


def export(checkpoint: Path, output: Path, provider: str = "cpu") -> None:
    """Write the folder `output`. For cpu the graph is float32; for others float16, which their kernels compute in.

    Raises `IngotError` for a checkpoint that cannot be exported and for a model that does not load and generate.
    """
    check_target(provider, "--provider")
    preflight.checkpoint(checkpoint)
    precision = "fp32" if provider == "cpu" else "fp16"
    workflow = {
        "input_model": olive.from_checkpoint(checkpoint),
        **olive.systems(provider),
        "passes": {"builder": {"type": "ModelBuilder", "precision": precision}},
    }
    print(f"export: building {precision} for {provider}", flush=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=output.parent) as scratch:
        finish(olive.run(workflow, Path(scratch), _passes), output, provider, checkpoint)


def _passes() -> None:
    from scripts.convert import builder_pass  # noqa: F401

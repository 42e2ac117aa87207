"""Ingot's pass `StoreFloat16` on the float ONNX export, as Olive's: a recipe names it beside Olive's own.

Importing this module imports Olive (seconds): only Olive does it, by the package configuration of `options.py`.
Measured with olive-ai 0.13.0, of which it uses the classes `Pass` and `ONNXModelHandler`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam

from scripts.convert import float16


class StoreFloat16(Pass):  # type: ignore[misc]
    """Stores matrices as float16; the graph computes in float32 as before (see `float16.py`)."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:  # noqa: ARG003
        return {}

    def _run_for_config(self, model: ONNXModelHandler, config: Any, output_model_path: str) -> ONNXModelHandler:  # noqa: ARG002
        path = float16.store(Path(model.model_path), Path(resolve_onnx_path(output_model_path)).parent)
        return ONNXModelHandler(str(path.parent), onnx_file_name=path.name)

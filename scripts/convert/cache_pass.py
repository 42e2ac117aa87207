"""Ingot's pass `CacheQuantization` on the ONNX model, as Olive's: a recipe names it beside Olive's own.

Importing this module imports Olive (seconds): only Olive does it, by the package configuration of `options.py`.
Measured with olive-ai 0.13.0, of which it uses the classes `Pass` and `ONNXModelHandler`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam

from scripts.convert import cache


class CacheQuantization(Pass):  # type: ignore[misc]
    """Stores keys and values in 8 bits (see `cache.py`)."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:  # noqa: ARG003
        tokens = PassConfigParam(type_=str, default_value="", description="file of the tokens to calibrate on")
        context = PassConfigParam(type_=int, default_value=0, description="tokens that its package will serve")
        return {"calibration": tokens, "context": context}

    def _run_for_config(self, model: ONNXModelHandler, config: Any, output_model_path: str) -> ONNXModelHandler:
        folder = Path(resolve_onnx_path(output_model_path)).parent
        path = cache.quantize(Path(model.model_path), folder, np.load(config.calibration), partial(print, flush=True))
        return ONNXModelHandler(str(path.parent), onnx_file_name=path.name)

"""Ingot's pass `WeightOnlyQuantization` on the float ONNX export, as Olive's: a recipe names it beside Olive's own.

Importing this module imports Olive (seconds): only Olive does it, by the package configuration of `options.py`.
Measured with olive-ai 0.13.0, of which it uses the classes `Pass` and `ONNXModelHandler`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam

from scripts.convert import weightonly
from scripts.convert.blockwise import Scheme
from scripts.convert.pass_options import parameters
from scripts.convert.plan import Plan
from scripts.definitions.passes import ALLOCATION, CALIBRATION, FREQUENCY, by_tokens
from scripts.definitions.passes import WeightOnlyQuantization as WeightOnlyOptions


class WeightOnlyQuantization(Pass):  # type: ignore[misc]
    """Quantises matrices and the embedding in blocks (see `weightonly.py`)."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:  # noqa: ARG003
        tokens = PassConfigParam(type_=str, default_value="", description="file of the tokens that gptq calibrates on")
        context = PassConfigParam(type_=int, default_value=0, description="tokens that its package will serve")
        return {**parameters(WeightOnlyOptions), "calibration": tokens, "context": context}

    def _run_for_config(self, model: ONNXModelHandler, config: Any, output_model_path: str) -> ONNXModelHandler:
        plan = Plan(
            body=Scheme(config.bits, config.block_size, config.symmetric, config.algorithm),
            head=Scheme(config.head_bits, config.block_size, config.symmetric, config.algorithm),
            accuracy_level=config.accuracy_level,
            embedding=config.quantize_embedding,
            half_scales=config.half_scales,
            eight_bit_nodes=tuple(config.eight_bit_nodes),
            float_nodes=tuple(config.float_nodes),
            eight_bit_tokens=config.eight_bit_tokens,
        )
        folder = Path(resolve_onnx_path(output_model_path)).parent
        calibrate = allocate = order = None
        if config.calibration:  # loaded by name, so that only a recipe that calibrates has it in its key
            windows = np.load(config.calibration)
            if config.algorithm == "gptq":
                calibrate = partial(importlib.import_module(CALIBRATION).Calibration, windows)
            if by_tokens({"target_bits": config.target_bits, "eight_bit_tokens": config.eight_bit_tokens}):
                order = partial(_order, windows)
            if config.target_bits is not None:
                allocate = self._allocate(windows, config.target_bits, config.context, folder.parent)
        say = partial(print, flush=True)
        path = weightonly.quantize(Path(model.model_path), folder, plan, say, calibrate, allocate, order)
        return ONNXModelHandler(str(path.parent), onnx_file_name=path.name)

    @staticmethod
    def _allocate(windows: Any, bits: float, context: int, folder: Path) -> weightonly.Allocate:
        allocation = importlib.import_module(ALLOCATION)

        def allocate(graph: Any, path: Path, plan: Plan, say: Callable[[str], None]) -> Any:
            return allocation.splits(graph, path, windows, plan, bits, context, folder, say)

        return allocate


def _order(windows: Any, graph: Any, path: Path, say: Callable[[str], None]) -> Any:
    return importlib.import_module(FREQUENCY).order(graph, path, windows, say)

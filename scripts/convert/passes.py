"""Olive passes of ours on the float ONNX export; a recipe names them beside Olive's own.

Importing this module imports Olive (seconds): only Olive does it, by the package configuration of `options.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
from msgspec import NODEFAULT, Struct, structs
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam

from scripts.common.typed import bare, fields
from scripts.convert import float16, weightonly
from scripts.convert.blockwise import Scheme
from scripts.definitions.passes import WeightOnlyQuantization as WeightOnlyOptions


def parameters(definition: type[Struct]) -> dict[str, PassConfigParam]:
    """The options of one of our passes in Olive's words."""
    return {field.name: _parameter(field, fields(definition)[field.name]) for field in structs.fields(definition)}


def _parameter(field: structs.FieldInfo, kind: Any) -> PassConfigParam:
    kind, metas = bare(kind)
    default = None if field.default is NODEFAULT else field.default
    if field.default_factory is not NODEFAULT:
        default = field.default_factory()
    return PassConfigParam(
        type_=type(get_args(kind)[0]) if get_origin(kind) is Literal else kind,
        default_value=default,
        required=field.required,
        description=next((meta.description for meta in metas if meta.description), field.name),
    )


class StoreFloat16(Pass):  # type: ignore[misc]
    """Stores matrices as float16; the graph computes in float32 as before (see `float16.py`)."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:  # noqa: ARG003
        return {}

    def _run_for_config(self, model: ONNXModelHandler, config: Any, output_model_path: str) -> ONNXModelHandler:  # noqa: ARG002
        path = float16.store(Path(model.model_path), Path(resolve_onnx_path(output_model_path)).parent)
        return ONNXModelHandler(str(path.parent), onnx_file_name=path.name)


class WeightOnlyQuantization(Pass):  # type: ignore[misc]
    """Quantises matrices and the embedding in blocks (see `weightonly.py`)."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:  # noqa: ARG003
        tokens = PassConfigParam(type_=str, default_value="", description="file of the tokens that gptq calibrates on")
        return {**parameters(WeightOnlyOptions), "calibration": tokens}

    def _run_for_config(self, model: ONNXModelHandler, config: Any, output_model_path: str) -> ONNXModelHandler:
        plan = weightonly.Plan(
            body=Scheme(config.bits, config.block_size, config.symmetric, config.algorithm),
            head=Scheme(config.head_bits, config.block_size, config.symmetric, config.algorithm),
            accuracy_level=config.accuracy_level,
            embedding=config.quantize_embedding,
            half_scales=config.half_scales,
            eight_bit_nodes=tuple(config.eight_bit_nodes),
            float_nodes=tuple(config.float_nodes),
        )
        folder = Path(resolve_onnx_path(output_model_path)).parent
        windows = np.load(config.calibration) if config.calibration else None
        path = weightonly.quantize(Path(model.model_path), folder, plan, lambda line: print(line, flush=True), windows)
        return ONNXModelHandler(str(path.parent), onnx_file_name=path.name)

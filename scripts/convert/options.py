"""Recipes' words as Olive's: execution providers, and Ingot's passes among Olive's. Nothing here imports Olive."""

from __future__ import annotations

import json
from typing import Any

from scripts.definitions.passes import PASSES, olive_config

#: Execution providers by the name that recipes use: (Olive's device, ONNX Runtime's provider).
TARGETS = {
    "cpu": ("cpu", "CPUExecutionProvider"),
    "cuda": ("gpu", "CUDAExecutionProvider"),
    "dml": ("gpu", "DmlExecutionProvider"),
    "webgpu": ("gpu", "WebGpuExecutionProvider"),
    "NvTensorRtRtx": ("gpu", "NvTensorRTRTXExecutionProvider"),
}
_MODULES = {"ModelBuilder": "scripts.convert.builder_pass"}


def package_config() -> dict[str, Any]:
    """Olive's package configuration with Ingot's passes registered, which win where a name is taken."""
    config: dict[str, Any] = json.loads(json.dumps(olive_config()))
    any_of = {"supported_providers": ["*"], "supported_accelerators": ["*"]}
    for name in PASSES:
        path = f"{_MODULES.get(name, 'scripts.convert.passes')}.{name}"
        precisions = ["fp32", "fp16", "int8", "int4"]
        config["passes"][name] = {"module_path": path, **any_of, "supported_precisions": precisions}
    return config

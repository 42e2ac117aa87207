"""Recipes' words as Olive's: execution providers, and Ingot's passes among Olive's. Nothing here imports Olive."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from scripts.definitions.passes import module_of, olive_config, own

#: Execution providers by the name that recipes use: (Olive's device, ONNX Runtime's provider).
TARGETS = {
    "cpu": ("cpu", "CPUExecutionProvider"),
    "cuda": ("gpu", "CUDAExecutionProvider"),
    "dml": ("gpu", "DmlExecutionProvider"),
    "webgpu": ("gpu", "WebGpuExecutionProvider"),
    "NvTensorRtRtx": ("gpu", "NvTensorRTRTXExecutionProvider"),
}


def package_config(kinds: Iterable[Any]) -> dict[str, Any]:
    """Olive's package configuration with those of Ingot's passes registered that are among the passes `kinds`; they
    win where a name is taken.
    """
    config: dict[str, Any] = json.loads(json.dumps(olive_config()))
    any_of = {"supported_providers": ["*"], "supported_accelerators": ["*"]}
    for name in filter(None, map(own, kinds)):
        precisions = ["fp32", "fp16", "int8", "int4"]
        path = f"{module_of(name)}.{name}"
        config["passes"][name] = {"module_path": path, **any_of, "supported_precisions": precisions}
    return config

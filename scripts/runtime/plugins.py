"""The adapter of execution providers that ONNX Runtime loads from a library of their own: WebGPU.

onnxruntime-ep-webgpu 0.4.0 computes on what the system's Vulkan, Direct3D 12 or Metal offers. What is bridged here:
- Its library counts software adapters (SwiftShader, llvmpipe) only where the environment says so.
- onnxruntime and onnxruntime-genai each hold an environment: the one tells of the device, the other computes on it.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from importlib.util import find_spec

from scripts.common.errors import IngotError

#: Execution provider → (module of the package that brings it, how to get it, how ONNX Runtime calls it).
PROVIDERS = {"webgpu": ("onnxruntime_ep_webgpu", "pip install -e '.[webgpu]'", "WebGpuExecutionProvider")}
#: How the provider says that the device, or what the system offers of it, lacks what it needs itself or for a graph.
_LACKS = re.compile(
    r"requires \S+ but the device does not support it|not supported by the device|No supported adapters"
    r"|Failed to get a WebGPU (?:adapter|device)|Vulkan \S+ (?:feature )?required"
)
_SOFTWARE = "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"


def provide(provider: str) -> str:
    """Have onnxruntime-genai know the provider, in this process; returns what it will compute on, for people.

    Raises `IngotError` where its package is not installed, or there is no device for it.
    """
    module, install, called = PROVIDERS[provider]
    if find_spec(module) is None:
        raise IngotError(module.replace("_", "-"), f"is not installed, and {provider} needs it", install)
    import onnxruntime
    import onnxruntime_ep_webgpu
    import onnxruntime_genai

    os.environ.setdefault(_SOFTWARE, "1")
    library = onnxruntime_ep_webgpu.get_library_path()
    onnxruntime_genai.register_execution_provider_library(provider, library)
    onnxruntime.register_execution_provider_library(provider, library)
    found = next((one.device for one in onnxruntime.get_ep_devices() if one.ep_name == called), None)
    if found is None:
        raise IngotError(provider, "no device for it is here", "Install a driver of the GPU, or a software adapter")
    kind = "a software adapter" if found.type.name == "CPU" else f"a {found.type.name} of {found.vendor}"
    return f"{kind}, {module.replace('_', '-')} {version(module.replace('_', '-'))}"


def lacks(words: str) -> bool:
    """Whether a fault's words say that the device lacks something; all else is the fault of what was to be computed."""
    return _LACKS.search(words) is not None

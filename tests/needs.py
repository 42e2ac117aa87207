"""What a test may need of the machine beyond Python and the lock: where it is not there, the test is skipped with one
line that says what to install, by `@pytest.mark.needs("browser")`, `@pytest.mark.needs("namespaces")` or the name of a
package that the lock leaves out.

A continuous integration (`CI=true`) has a browser, so there the lack of one is a failure.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.common.errors import IngotError
from scripts.report import picture

#: Root of namespaces of its own, as any user may be: what it mounts is seen by nobody else, and goes when it ends.
_AS_ROOT = ("unshare", "--user", "--map-root-user", "--mount")
#: Where Debian's Chromium brings SwiftShader (Vulkan, computed by the CPU) and a loader; what it takes to use it.
CHROMIUM = Path("/usr/lib/chromium")
SOFTWARE_ADAPTER = {
    "LD_LIBRARY_PATH": str(CHROMIUM), "VK_DRIVER_FILES": str(CHROMIUM / "vk_swiftshader_icd.json"),
}  # fmt: skip
#: Where Mesa's llvmpipe (Vulkan too, and float16 with it) is: named by the environment, or installed.
LLVMPIPE = ("/usr/share/vulkan/icd.d", "lvp_icd*.json")
IN_CI_TOO = frozenset({"browser"})


def in_a_namespace(
    script: str, *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 500
) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount; `words` are its $1, $2, …"""
    command = [*_AS_ROOT, "sh", "-euc", script, "sh", *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, env=None if env is None else dict(env), capture_output=True, text=True, check=False,
        timeout=timeout,
    )  # fmt: skip


@functools.cache
def missing(what: str) -> str | None:
    """Why it is not there, and what to do about it; None where it is there and works."""
    checks: dict[str, Callable[[], str | None]] = {
        "browser": _no_browser,
        "namespaces": _no_namespaces,
        "software adapter": _no_software_adapter,
        "float16 adapter": _no_float16_adapter,
        "powershell": lambda: None if shutil.which("pwsh") else "pwsh is not installed: PowerShell 7",
        "bitsandbytes": functools.partial(_no_package, "bitsandbytes", "bitsandbytes==0.50.2"),
        "distributed": functools.partial(_no_package, "distributed", "-e '.[team]'"),
        "mlflow": functools.partial(_no_package, "mlflow", "-e '.[team]'"),
        "registry": _no_registry,
        "oras": functools.partial(_no_package, "oras", "oras"),
        "olot": functools.partial(_no_package, "olot", "olot"),
    }
    return checks[what]()


def _no_package(module: str, words: str) -> str | None:
    return None if importlib.util.find_spec(module) else f"{module} is not installed: pip install {words}"


def _no_browser() -> str | None:
    try:
        chromium = picture.find()
    except IngotError as error:
        return str(error)
    # What is called so may be a stub that only says how to install it, or may lack the right to its sandbox.
    with tempfile.TemporaryDirectory() as home:
        words = [chromium, *picture.flags(), f"--user-data-dir={home}/profile", "--dump-dom", "about:blank"]
        why = _why_not(words, {**os.environ, "HOME": home})
    return why and f"{chromium}: does not start ({why}). Install one that does: apt-get install chromium"


def _no_software_adapter() -> str | None:
    there = all((CHROMIUM / name).is_file() for name in ("vk_swiftshader_icd.json", "libvulkan.so.1"))
    why = None if there else f"{CHROMIUM} has no SwiftShader: apt-get install chromium"
    return _no_package("onnxruntime_ep_webgpu", "onnxruntime-ep-webgpu") or why


def float16_adapter() -> dict[str, str]:
    """What it takes to use an adapter that may know float16: the environment's own, else the installed llvmpipe."""
    folder, pattern = LLVMPIPE
    drivers = [os.environ.get("VK_DRIVER_FILES", ""), *map(str, sorted(Path(folder).glob(pattern)))]
    return {"VK_DRIVER_FILES": next(filter(None, drivers), "")}


def _no_float16_adapter() -> str | None:
    if why := _no_package("onnxruntime_ep_webgpu", "onnxruntime-ep-webgpu"):
        return why
    why = _why_not([sys.executable, "-c", _ADDS_FLOAT16], {**os.environ, **float16_adapter()})
    return why and (
        "there is no adapter whose shaders know float16: apt-get install mesa-vulkan-drivers, of Mesa 25 or newer (in "
        "Debian 12 that is in bookworm-backports)"
    )


_ADDS_FLOAT16 = """
import numpy, onnxruntime
from onnx import TensorProto, helper
from scripts.runtime import plugins
plugins.provide("webgpu")
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [8]) for name in "ab"]
graph = helper.make_graph([helper.make_node("Add", ["a", "a"], ["b"])], "g", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == "WebGpuExecutionProvider"]
options.add_provider_for_devices(devices[:1], {})
session = onnxruntime.InferenceSession(model.SerializeToString(), options)
(found,) = session.run(None, {"a": numpy.arange(8, dtype=numpy.float16)})
assert (found == 2 * numpy.arange(8)).all()
"""


def _no_registry() -> str | None:
    lacking = [name for name in ("skopeo", "docker-registry") if not shutil.which(name)]
    return f"not installed: apt-get install {' '.join(lacking)}" if lacking else None


def _no_namespaces() -> str | None:
    why = _why_not([*_AS_ROOT, "mount", "-t", "tmpfs", "none", "/mnt"], None)
    return why and (
        f"nothing can be mounted in a namespace of one's own ({why}). On Linux: apt-get install util-linux, and "
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    )


def _why_not(words: list[str], env: Mapping[str, str] | None) -> str | None:
    """Why a command fails; None where it does not."""
    try:
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.strip().splitlines()
    return (said[0] if said else f"exit code {done.returncode}") if done.returncode else None

"""Which machine this is, as far as measurements depend on it."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import sys
from pathlib import Path


@functools.cache
def processor() -> str:
    """The processor's name as its maker writes it, where the system tells."""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("model name", "Model")):
                    return line.split(":", 1)[1].strip()
    import platform  # elsewhere; its import takes a while

    return platform.processor() or platform.machine()


#: Flags of Linux's /proc/cpuinfo → the class of instructions by which float sums are grouped, the widest first.
_CLASSES = (("avx512f", "avx512"), ("avx2", "avx2"), ("sve", "sve"), ("asimd", "neon"))
#: Flags by which onnxruntime chooses how it multiplies 8-bit integers.
_INTEGERS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
#: The same by the numbers of Windows' `IsProcessorFeaturePresent`.
_WINDOWS_CLASSES = ((41, "avx512"), (40, "avx2"))


@functools.cache
def instruction_set() -> str:
    """System, architecture, its widest vector instructions and those for 8-bit integers, such as "linux x86_64 avx2":
    sums of floats and products of quantised numbers differ between them, and so may the bytes of what they compute.
    """
    machine = _system().lower().replace("amd64", "x86_64").replace("aarch64", "arm64")
    return f"{machine} {_vectors()}".strip()


def _vectors() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            flags = next((line.split() for line in file if line.startswith(("flags", "Features"))), [])
        vectors = next((name for flag, name in _CLASSES if flag in flags), "")
        return " ".join([vectors, *(flag for flag in _INTEGERS if flag in flags)]).strip()
    if os.name == "nt":
        import ctypes

        present = ctypes.windll.kernel32.IsProcessorFeaturePresent  # type: ignore[attr-defined,unused-ignore]
        return next((name for number, name in _WINDOWS_CLASSES if present(number)), "")
    return "neon"  # macOS on Apple silicon


#: The number of glibc's `sysconf` name, which Python's table of names lacks.
_SC_LEVEL3_CACHE_SIZE = 194


@functools.cache
def fingerprint() -> dict[str, object]:
    """Processor, logical cores, memory in GiB, operating system: what makes two measurements comparable."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_bytes() / 2**30),
        "system": _system(),
    }


def cache_bytes() -> int:
    """Bytes of the processor's largest level of caches, all of that level together; 0 where nothing tells.

    By Linux's sysfs and by the C library, of which the larger: a virtual machine may be told of less than it shares.
    """
    told = caches_in(Path("/sys/devices/system/cpu"))
    if sys.platform == "linux":
        with contextlib.suppress(ValueError, OSError):  # not every C library knows it
            told = max(told, os.sysconf(_SC_LEVEL3_CACHE_SIZE))
    return told


def caches_in(system: Path) -> int:
    """The same by a folder like Linux's /sys/devices/system/cpu; a cache that several cores share counts once."""
    sizes: dict[tuple[int, str], int] = {}
    for index in system.glob("cpu[0-9]*/cache/index[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            level, size, cores = ((index / name).read_text(encoding="ascii").strip()
                                  for name in ("level", "size", "shared_cpu_list"))  # fmt: skip
            sizes[int(level), cores] = int(size.removesuffix("K")) * 1024
    levels = {level: sum(size for (of, _), size in sizes.items() if of == level) for level, _ in sizes}
    return max(levels.values(), default=0)


def usable_cores() -> int:
    """Logical cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not of every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system() -> str:
    if os.name != "nt":
        return f"{os.uname().sysname} {os.uname().machine}"
    import platform

    return f"{platform.system()} {platform.machine()}"


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # another system; every `doit list` passes here, so not before
        import psutil

        return psutil.virtual_memory().total


def usable_memory() -> int:
    """Bytes that one step may use: what the machine has, or the container around us, less what else must live there."""
    total = min([_memory_bytes(), *_container_limits()])
    return total - min(1 << 30, total // 8)


def _container_limits() -> list[int]:
    """What control groups of Linux allow this process, of either version, outer ones too."""
    found: list[int] = []
    try:
        with open("/proc/self/cgroup", encoding="ascii", errors="replace") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return found
    for _, controllers, path in (group for group in groups if len(group) == 3):
        root, name = ("memory", "memory.limit_in_bytes") if "memory" in controllers.split(",") else ("", "memory.max")
        if controllers and not root:
            continue
        folders = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(folders) + 1):
            place = Path("/sys/fs/cgroup", root, *folders[:depth], name)
            with contextlib.suppress(OSError, ValueError):  # "max", or not there: no limit
                found.append(int(place.read_text(encoding="ascii")))
    return [limit for limit in found if limit > 0]


def temporary(name: str) -> Path:
    """A file for all builds of this user on this machine."""
    import tempfile

    return Path(tempfile.gettempdir()) / f"ingot-{_user()}-{name}"


def _user() -> str:
    import getpass
    import re

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have no name
        name = str(os.getuid())
    return re.sub(r"[^A-Za-z0-9]", "_", name)


#: Where Linux shows graphics devices, the version of NVIDIA's driver, and drivers of Vulkan and OpenCL.
_GRAPHICS = (
    "/sys/class/drm/card*/device/vendor", "/sys/class/drm/card*/device/device", "/sys/module/nvidia/version",
    "/dev/dxg",
    "/etc/vulkan/icd.d/*.json", "/usr/share/vulkan/icd.d/*.json", "/etc/OpenCL/vendors/*.icd",
)  # fmt: skip
#: By these one says which driver of Vulkan is to be used.
_VULKAN = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES")


def graphics() -> list[str]:
    """What graphics devices and drivers Linux has, as far as files tell; their order says nothing. Elsewhere empty."""
    found = [f"{name}={os.path.basename(os.environ[name])}" for name in _VULKAN if os.environ.get(name)]
    for pattern in _GRAPHICS:
        for path in glob.glob(pattern):
            told = ""
            with contextlib.suppress(OSError):
                told = Path(path).read_text(encoding="utf-8").strip() if path.startswith("/sys/") else ""
            found.append(f"{path.removeprefix('/sys/class/drm/')} {told}".strip())
    return sorted(found)

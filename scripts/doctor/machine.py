"""What a build needs of the machine: Python, memory, disk, packages, the Foundry runtime."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from scripts.common.errors import IngotError
from scripts.common.tools import PYTHON
from scripts.doctor.findings import Line, gigabytes

RAM = 8_000_000_000  # bytes: "8 GB" machines report a little less than 8 GiB


def python() -> Line:
    """Its version."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON:
        return Line("bad", "Python", found, f"Install Python {PYTHON[0]}.{PYTHON[1]} or newer, then `make setup`")
    return Line("ok", "Python", found)


def memory() -> Line:
    """Of this machine, in all."""
    import psutil

    total = psutil.virtual_memory().total
    if total < RAM:
        return Line("bad", "memory", f"{gigabytes(total)}, 8 GB needed", "Build on a machine with more memory")
    return Line("ok", "memory", gigabytes(total))


def disk(build: Path, need: int) -> Line:
    """What is free for the build folder; `need` in bytes."""
    free = shutil.disk_usage(next(path for path in (build, *build.parents) if path.exists())).free
    found = f"{gigabytes(free)} free, {gigabytes(need)} needed"
    if free < need:
        return Line("bad", "disk", found, "Free some space, or set another build=DIR")
    return Line("ok", "disk", found)


def versions(lock: Path) -> Line:
    """Each `name==version` of the lock file against what is installed; a build tag (+cpu) makes no difference."""
    try:
        text = lock.read_text(encoding="utf-8")
    except OSError as error:
        return Line("bad", "packages", f"{lock}: {error.strerror}", "Restore requirements.lock")
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    wrong = []
    for name, wanted in pinned:
        try:
            found = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if found.partition("+")[0] != wanted.partition("+")[0]:
            wrong.append(f"{name} is {found} instead of {wanted}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Line("bad", "packages", ", ".join(wrong[:3]) + more, "Run `make setup` after `rm .venv/.ready`")
    return Line("ok", "packages", f"{len(pinned)} as in {lock.name}")


def runtime() -> Line:
    """Foundry Local's, opened once."""
    from scripts.runtime.foundry import Runtime, RuntimeFault, label

    try:
        with Runtime():
            return Line("ok", "Foundry runtime", label())
    except RuntimeFault as error:
        return Line("bad", "Foundry runtime", error.found, error.remedy or "Run `make setup`")


def families() -> Line:
    """How many can be converted."""
    from scripts.families import supported

    try:
        return Line("ok", "families", f"{len(supported.architectures())} can be converted: `doit families`")
    except IngotError as error:
        return Line("bad", "families", f"{error.subject} {error.found}", error.remedy)

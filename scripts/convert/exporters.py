"""Which module the export of a checkpoint will load by name. Light: the declaration of the pipeline asks it."""

from __future__ import annotations

import functools
from pathlib import Path

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.definitions.passes import EXPORTERS, module_of
from scripts.families import supported

_ALL = tuple(map(module_of, EXPORTERS.values()))


def modules(checkpoint: Path, exporter: str | None = None) -> tuple[str, ...]:
    """The module of the exporter that `export` will choose, for the key of its step; of all of them while the
    checkpoint is not there.
    """
    file = checkpoint / "config.json"
    try:
        found = file.stat()
    except OSError:
        return _ALL
    return _modules(file, exporter, (found.st_mtime_ns, found.st_size, found.st_ino))


@functools.cache
def _modules(file: Path, exporter: str | None, stamp: tuple[int, ...]) -> tuple[str, ...]:  # noqa: ARG001
    try:
        chosen = supported.exporter(file, json_files.read(file), exporter)
    except (OSError, ValueError, IngotError):
        return _ALL  # the step itself will say so
    return (module_of(EXPORTERS[chosen]),)

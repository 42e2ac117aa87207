"""Reading and writing of results: every one is a msgspec Struct, and a file of another form says so by file and field.

A result is written as indented JSON, its fields in the order of the definition, after it was held against its own
type: what a reader would refuse is never written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from scripts.common import json_files
from scripts.common.errors import IngotError

#: Of a step or a part of one. "skipped": there was nothing to work on, or nobody asked for it. "failed": it broke.
Verdict = Literal["passed", "warned", "refused", "skipped", "failed"]

Bytes = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Positive = Annotated[float, msgspec.Meta(ge=0)]
#: From, to; of 95 % unless something else is said.
Interval = Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]
#: Tables whose fields belong to somebody else: a tool's settings, the conditions of a measurement, raw samples.
Table = dict[str, Any]
#: Folder beside a result for the notes of the build on it.
MARKERS = ".ingot"

T = TypeVar("T")


class Outcome(Struct, kw_only=True, frozen=True):
    """What every result begins with."""

    verdict: Verdict
    reasons: list[str]


class Marker(Struct, kw_only=True, frozen=True):
    """What a step that broke, or had nothing to work on, leaves in place of its output."""

    verdict: Literal["failed", "skipped"] = "failed"
    reasons: list[str] = []
    log: str | None = None
    step: str = ""


class Percentiles(Struct, kw_only=True, frozen=True):
    """None where nothing was measured."""

    p50: Positive | None
    p90: Positive | None
    p99: Positive | None


def marker_of(result: Path) -> Path:
    """Where the build notes, beside a result, that the step which makes it failed or was skipped."""
    return result.parent / MARKERS / f"{result.stem}.failed.json"


def write(path: Path, result: Struct) -> None:
    """Write a result. Raises `msgspec.ValidationError` where it is not of its own type, which is a bug of the stage."""
    value = plain(result)
    msgspec.convert(value, type(result))
    json_files.write(path, value)


def plain(result: Struct) -> Any:
    """The result as the dicts and lists of its JSON, verdict and reasons first."""
    value = msgspec.to_builtins(result)
    return {name: value[name] for name in ("verdict", "reasons") if name in value} | value


def read(path: Path, kind: type[T], remedy: str = "Remove it, and build again: doit") -> T:
    """Read a result. Raises `IngotError` naming file and field; `FileNotFoundError` where there is none."""
    try:
        return msgspec.json.decode(json_files.read_bytes(path), type=kind)
    except msgspec.ValidationError as error:
        raise IngotError(path, f"is not what this version of Ingot writes: {_told(error)}", remedy) from None
    except json_files.NotJsonError as error:
        raise IngotError(path, error.found, remedy) from None
    except (ValueError, RecursionError) as error:
        raise IngotError(path, f"is not JSON: {error}", remedy) from None


def find(path: Path, kind: type[T]) -> T | None:
    """`read`, and None where there is no file."""
    return read(path, kind) if path.is_file() else None


def _told(error: msgspec.ValidationError) -> str:
    """`kl: expected float, found str`, from msgspec's words."""
    what, _, place = str(error).partition(" - at ")
    field = place.strip("`").removeprefix("$").removeprefix(".")
    return (f"{field}: " if field else "") + what[:1].lower() + what[1:].replace("`", "").replace(", got ", ", found ")

"""Is this machine ready? One line for each thing that Ingot needs, with what to do where it is missing.

    python -m scripts.doctor [--config DIR] [--build DIR] [--cache DIR] [--need-disk BYTES] [--lock FILE]

Exits 1 if something needed is missing; what is merely good to know never fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from scripts.common import terminal
from scripts.common.errors import IngotError
from scripts.common.os_errors import ours
from scripts.common.tools import PYTHON
from scripts.settings.models import Model, bytes_made

RAM = 8_000_000_000  # bytes: "8 GB" machines report a little less than 8 GiB
DISK = 5_000_000_000  # bytes, for weights that are still to be fetched: the example model, every precision
ROOT = Path(__file__).parents[1]
_COLOURS = {"ok": "32", "warn": "33", "bad": "31"}


@dataclass(frozen=True)
class Line:
    """One finding. `status` is "ok", "warn" (works without) or "bad" (needed); `remedy` is empty if all is well."""

    status: str
    what: str
    found: str
    remedy: str = ""


def diagnose(
    cache: str | None = None,
    need_disk: int | None = None,
    lock: Path | None = None,
    *,
    config: Path | None = None,
    build: Path | None = None,
) -> list[Line]:
    """Check Python, memory, disk, the installed versions, the Foundry runtime, its cache, the `foundry` command, and
    all that `config` names: weights, adapters, cases, schemas, texts, recipes. Changes nothing.

    `cache`: as `foundry.cache` in models.toml has it; None: the build's own. `need_disk`: bytes; None: estimated from
    the models of `config`.
    """
    from scripts.foundry import condition

    build = build or ROOT / "build"
    where = cache or str(build / "foundry" / "cache" / "models")
    models, estimated = _models(config) if config else ([], DISK)
    need = estimated if need_disk is None else need_disk
    checks: list[Callable[[], Line]] = [
        _python,
        _memory,
        lambda: _disk(build, need),
        lambda: _versions(lock or ROOT / "requirements.lock"),
        _runtime,
        _families,
        lambda: Line(*condition.cache(where)),
        lambda: Line(*condition.command(where)),
    ]
    return [*(check() for check in checks), *(Line(*told) for told in condition.folders(where)), *models]


def _python() -> Line:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON:
        return Line("bad", "Python", found, f"Install Python {PYTHON[0]}.{PYTHON[1]} or newer, then `make setup`")
    return Line("ok", "Python", found)


def _memory() -> Line:
    import psutil

    total = psutil.virtual_memory().total
    if total < RAM:
        return Line("bad", "memory", f"{_gb(total)}, 8 GB needed", "Build on a machine with more memory")
    return Line("ok", "memory", _gb(total))


def _disk(build: Path, need: int) -> Line:
    free = shutil.disk_usage(next(path for path in (build, *build.parents) if path.exists())).free
    if free < need:
        return Line("bad", "disk", f"{_gb(free)} free, {_gb(need)} needed", "Free some space, or set another build=DIR")
    return Line("ok", "disk", f"{_gb(free)} free, {_gb(need)} needed")


def _versions(lock: Path) -> Line:
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


def _runtime() -> Line:
    from scripts.runtime.foundry import Runtime, RuntimeFault, label

    try:
        with Runtime():
            return Line("ok", "Foundry runtime", label())
    except RuntimeFault as error:
        return Line("bad", "Foundry runtime", error.found, error.remedy or "Run `make setup`")


def _families() -> Line:
    from scripts.families import supported

    try:
        return Line("ok", "families", f"{len(supported.architectures())} can be converted: `doit families`")
    except IngotError as error:
        return Line("bad", "families", f"{error.subject} {error.found}", error.remedy)


def _models(config: Path) -> tuple[list[Line], int]:
    """What is configured, read and judged: a line for each model, one more for each mistake; and the bytes of disk that
    building all of them will need.
    """
    from scripts.settings.reading import read

    try:
        settings = read(config)
    except IngotError as error:
        return [_mistake("configuration", error)], DISK
    lines = [_mistake("recipes.toml", error) for error in settings.recipe_problems]
    need = 0
    for model in settings.models:
        found, size = _weights(model)
        texts = _texts(model, settings.general_text)
        mistakes = [*model.problems, *(item for item in (found, *texts) if isinstance(item, IngotError))]
        mistakes = [error for error in mistakes if error not in settings.recipe_problems]
        need += size
        what = f"model {model.name}"
        lines += [_mistake(what, error) for error in mistakes]
        if not mistakes and not model.problems:
            lines.append(Line("ok", what, "; ".join(map(str, (found, *texts)))))
        lines += _base(model)
    return lines, need


def _base(model: Model) -> list[Line]:
    """What is wrong with the model without its fine-tuning, which a build does without."""
    from scripts.checkpoint.preflight import check_source

    path = model.base.source.path if model.base else None
    if path is None or path == model.source.path:
        return []
    try:
        check_source(path)
    except (IngotError, OSError) as given:
        error = ours(given, path)
        told = f"{error.subject}: {error.found}: what fine-tuning gained will not be told"
        return [Line("warn", f"base of {model.name}", told, error.remedy)]
    return []


def _mistake(what: str, error: IngotError) -> Line:
    return Line("bad", what, f"{error.subject}: {error.found}", error.remedy or "Correct it")


def _weights(model: Model) -> tuple[str | IngotError, int]:
    """What is known of a model's weights and adapters, or what is wrong; and the bytes of disk that a build needs."""
    from scripts.checkpoint.preflight import (
        check_adapter,
        check_context,
        check_exporter,
        check_memory,
        check_source,
        check_template,
        estimate,
        key_value_bytes,
        served_context,
    )

    path, alone = model.source.path, len(model.adapters) == 1
    if not model.source.kind:
        return "", 0
    try:
        adapters = [check_adapter(adapter.path, adapter.weight, alone=alone) for adapter in model.adapters]
        if path is None:
            return f"{model.source.kind} {model.source.where}, checked when it is fetched", DISK
        base = check_source(path)
        check_exporter(base, model.exporter)
        check_context(base, model.context_length, model.sampling.get("max_length"))
        check_template(base, adapters, None if model.template is None else str(model.template))
    except (IngotError, OSError) as error:
        return ours(error, model.source.where), 0
    rewritten = bool(model.adapters) or base.is_packed
    need = estimate(
        base.parameters, base.largest, rewritten=rewritten, makes=bytes_made(model),
        serves_float=model.serves_float, token_bytes=key_value_bytes(base),
        context=served_context(base, model.context),
    )  # fmt: skip
    try:
        check_memory(need)
    except IngotError as error:
        return error, need.disk_bytes
    memory = max(need.memory_bytes, need.serving_bytes) / 2**30
    told = f"{base.architecture}, {base.parameters / 1e6:.0f} million parameters; a build takes about {memory:.1f} GiB"
    return f"{told} of memory", need.disk_bytes


def _texts(model: Model, general: Path) -> list[str | IngotError]:
    """What is said of each file that a model is judged by or calibrated on: a few words, or what is wrong with it."""
    from scripts.cases import cases
    from scripts.checkpoint.templates import check as check_file
    from scripts.common.user_files import check_text

    load = cases.load if model.schema else cases.load_without_schema
    checks: list[tuple[Path | None, Callable[[Path], str]]] = [
        (model.cases, lambda path: f"cases: {len(load(path))}"),
        (model.schema, _told("schema", cases.load_schema)),
        (general, _told("", check_text)),
        (model.text, _told("text", check_text)),
        (model.template if isinstance(model.template, Path) else None, _told("template", check_file)),
        *((path, _calibration) for path in model.calibration),
    ]
    found: list[str | IngotError] = []
    for path, check in checks:
        if path is not None:
            try:
                found.append(check(path))
            except (IngotError, OSError) as error:
                found.append(ours(error, path))
    return list(filter(None, found))


def _told(word: str, check: Callable[[Path], object]) -> Callable[[Path], str]:
    """`check`, which raises what is wrong, and a word for a file that is sound."""

    def told(path: Path) -> str:
        check(path)
        return word

    return told


def _calibration(path: Path) -> str:
    """Lines that calibration can't use are told; of the project's own text there is nothing to say."""
    from scripts.convert import texts
    from scripts.settings.recipes import PROJECT_CONFIG

    count = texts.check(path)
    if path.suffix == ".jsonl":
        return f"texts to calibrate on: {count}"
    return "" if path.resolve().is_relative_to(PROJECT_CONFIG) else f"calibrated on {path.name}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def render(lines: list[Line], colours: bool, columns: int = 0) -> str:
    """The findings as text, with the remedy below where there is one; wrapped to so many columns, if any."""
    width = max(len(line.what) for line in lines)
    beside = " " * (width + 8)
    rows = []
    for line in lines:
        mark = f"{line.status:4}"
        mark = f"\x1b[{_COLOURS[line.status]}m{mark}\x1b[0m" if colours else mark
        told = [
            part for text in (line.found, line.remedy) if text
            for part in terminal.wrapped(text, columns and columns - len(beside))
        ] or [""]  # fmt: skip
        rows += [f"{mark}  {line.what:{width}}  {told[0]}", *(beside + part for part in told[1:])]
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="doctor", description="Is this machine ready for Ingot?")
    parser.add_argument("--cache", help='the Foundry cache: a folder, "app:NAME", or "auto"')
    parser.add_argument("--config", type=Path, help="folder of models.toml: judge all that is configured there")
    parser.add_argument("--build", type=Path, help="the build folder, default build")
    parser.add_argument("--need-disk", type=int, metavar="BYTES", help="what the build will need, else an estimate")
    parser.add_argument("--lock", type=Path, help="the pinned versions, default requirements.lock")
    given = parser.parse_args(arguments)
    lines = diagnose(given.cache, given.need_disk, given.lock, config=given.config, build=given.build)
    try:
        print(render(lines, terminal.obeys(sys.stdout), terminal.columns(sys.stdout)), flush=True)
    except BrokenPipeError:  # `doit doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if any(line.status == "bad" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())

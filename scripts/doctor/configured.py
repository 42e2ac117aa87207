"""All that is configured, read and judged: weights, adapters, cases, schemas, texts, recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scripts.common.errors import IngotError
from scripts.common.os_errors import ours
from scripts.doctor.findings import Line
from scripts.settings.models import Model, bytes_made

DISK = 5_000_000_000  # bytes, for weights that are still to be fetched: the example model, every precision


def models(config: Path) -> tuple[list[Line], int]:
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

"""Everything that Ingot needs, looked at one after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scripts.doctor import configured, machine
from scripts.doctor.findings import Line

ROOT = Path(__file__).parents[2]


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
    models, estimated = configured.models(config) if config else ([], configured.DISK)
    need = estimated if need_disk is None else need_disk
    checks: list[Callable[[], Line]] = [
        machine.python,
        machine.memory,
        lambda: machine.disk(build, need),
        lambda: machine.versions(lock or ROOT / "requirements.lock"),
        machine.runtime,
        machine.families,
        lambda: Line(*condition.cache(where)),
        lambda: Line(*condition.command(where)),
    ]
    return [*(check() for check in checks), *(Line(*told) for told in condition.folders(where)), *models]

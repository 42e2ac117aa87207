"""What a reader types next: doit's commands as this build was called, and how to use what was deployed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def doit(called: dict[str, Any], *words: str) -> str:
    """A command that can be copied: with the `config=` and `build=` that this build was called with."""
    return " ".join(["doit", *map(shlex.quote, called["options"]), *words])


def ending(report: dict[str, Any]) -> list[str]:
    """The last lines on a terminal: where the report is, what is deployed where, how to use it, what to do next."""
    called = report["called"]
    lines = [f"Report:   {called['build']}/report/index.html"]
    for cache, ids in _by_cache(report["models"]):
        lines.append(f"Deployed: {', '.join(ids)} in {short(cache, called)}")
    if used := next(iter(usable(report["models"])), None):
        model, row = used
        lines.append(f"Use it:   {doit(called, 'chat', model['name'])} (talk to it)")
        lines.append(f"          {doit(called, 'serve', model['name'])} (for any OpenAI client)")
        lines.append(f"          {called['build']}/{model['name']}/{row['precision']}/attested/README.md has the code")
    failed = any(step["verdict"] == "failed" for model in report["models"] for step in model["failures"])
    what = doit(called, "why") if failed else doit(called, "accept")
    told = "what would run again, and why" if failed else "keeps this report, to compare the next with"
    return [*lines, f"Next:     {what} ({told})"]


def usable(models: Iterable[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Of each model that is deployed, the precision to use: the recommended one, else the first; (model, precision)."""
    found = []
    for model in models:
        rows = [row for row in model["precisions"] if row["deployed"]]
        best = sorted(rows, key=lambda row: row["precision"] != model["recommended"])
        found += [(model, row) for row in best[:1]]
    return found


def short(path: str, called: dict[str, Any]) -> str:
    """A path as a reader of this build would type it: below the build folder, relative to where doit is called."""
    folder = called["folder"]
    if folder and Path(path).is_relative_to(folder):
        return str(Path(called["build"]) / Path(path).relative_to(folder))
    return path


def _by_cache(models: Iterable[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for model in models:
        for row in model["precisions"]:
            if row["deployed"]:
                found.setdefault(row["deployed"]["cache"], []).append(row["deployed"]["id"])
    return list(found.items())

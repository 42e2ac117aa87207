"""What every process of a build loaded, step by step: the other side of the recorder's notes."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORDER = Path(__file__).with_name("recorder")


@dataclass
class Loaded:
    """By the processes of one step: the project's modules and data files, and distributions, each with one command that
    loaded it.
    """

    modules: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    distributions: dict[str, str] = field(default_factory=dict)


def environment(notes: Path) -> dict[str, str]:
    """Variables by which a build, and all that it starts, records into the folder `notes`."""
    notes.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(RECORDER), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "INGOT_RECORD": str(notes), "INGOT_RECORD_PROJECT": f"{ROOT}/scripts/"}


def read(notes: Path) -> dict[str, Loaded]:
    """What was loaded by step, its name as in the work folder's (`quantize.facts-int4`)."""
    processes: dict[int, dict[str, Any]] = {}
    for file in notes.iterdir():
        head, *files = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        who = json.loads(head)
        processes[who["pid"]] = {**who, "files": files}
    owners = _owners()
    found: dict[str, Loaded] = defaultdict(Loaded)
    for process in processes.values():
        if step := _step(process, processes):
            for file in process["files"]:
                _sort(file, " ".join(process["command"][1:6]), owners, found[step])
    return dict(found)


def _step(process: dict[str, Any], processes: dict[int, dict[str, Any]]) -> str | None:
    """The step that a process belongs to, by the work folder on the command line of it or of who started it."""
    at: dict[str, Any] | None = process
    while at:
        for word in at["command"]:
            parts = Path(word).parts
            if ".work" in parts and at["command"][1] == "-m":
                return parts[parts.index(".work") + 1].rsplit(".", 2)[0]
        at = processes.get(at["parent"])
    return None


def _sort(file: str, command: str, owners: dict[str, str], found: Loaded) -> None:
    path = Path(file)
    if path.is_relative_to(ROOT / "scripts"):
        inside = path.relative_to(ROOT)
        if path.suffix == ".py":
            name = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
            found.modules.setdefault(name, command)
        else:
            found.data.setdefault("/".join(inside.parts[1:]), command)
    elif owner := owners.get(os.path.realpath(file)):
        found.distributions.setdefault(owner, command)


def _owners() -> dict[str, str]:
    """Every file of every installed distribution → its name."""
    found: dict[str, str] = {}
    for distribution in distributions():
        base = os.path.realpath(str(distribution.locate_file("")))
        for file in distribution.files or ():
            found[os.path.normpath(f"{base}/{file}")] = distribution.name
    return found

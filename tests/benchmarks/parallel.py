"""What `doit -n auto` gains on one machine: 4 models in 3 precisions, by default; prints JSON.

    python -m tests.benchmarks.parallel [--models 4] [--precisions int4,int8,fp16] [--rounds 3] [--tasks 'package:*' …]

Small models are built from nothing to what the tasks name, with `-n 1` and `-n auto` in turn, each time in a build
folder of its own; the pages of the tools are warm after an uncounted build of one model. A machine that does anything
else in the meantime spoils it: the load before each build is told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.common.machine import fingerprint, usable_cores
from tests import tiny
from tests.system.project import Project


def built(project: Project, words: list[str]) -> dict[str, float]:
    """Build anew; wall seconds, and the load before."""
    shutil.rmtree(project.build, ignore_errors=True)
    load, started = os.getloadavg()[0], time.perf_counter()
    ran = project.doit(*words)
    assert ran.code == 0, ran.out[-3000:]
    return {"seconds": round(time.perf_counter() - started, 1), "load_before": round(load, 1)}


def measure(models: int, precisions: list[str], rounds: int, tasks: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="parallel") as name:
        project = Project(Path(name) / "project")
        rows = []
        for number in range(models):
            weights = tiny.make_checkpoint(Path(name) / f"weights-{number}", "llama")
            rows.append({"name": f"m{number}", "source": {"path": weights}, "precisions": precisions,
                         "evaluation": project.facts()})  # fmt: skip
        project.models(rows[0])
        built(project, tasks)
        project.models(*rows)
        found: dict[str, list[dict[str, float]]] = {"1": [], "auto": []}
        for _ in range(rounds):
            for number_of_steps, samples in found.items():
                samples.append(built(project, ["-n", number_of_steps, *tasks]))
    medians = {n: statistics.median(one["seconds"] for one in samples) for n, samples in found.items()}
    return {"models": models, "precisions": precisions, "tasks": tasks, "cores": usable_cores(),
            "faster": round(medians["1"] / medians["auto"], 2), "samples": found}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--precisions", default="int4,int8,fp16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=["package:*", "quality:*"])
    given = parser.parse_args()
    found = measure(given.models, given.precisions.split(","), given.rounds, given.tasks)
    print(json.dumps(found | {"python": platform.python_version(), "machine": fingerprint()}, indent=1))


if __name__ == "__main__":
    main()

"""What large files cost the engine: nothing when unchanged, one pass when touched, a link when restored.

    python -m tests.benchmarks.big [--gigabytes 8] [--rounds 5]

The weights are a sparse file, so that no disk is asked for what the engine is. Prints JSON: a no-op with small and with
large weights; the pass after a `touch` and its rate (the second of two, when the file's pages are known); the run after
that; and building against restoring an output of 256 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.common.machine import fingerprint
from tests.engine.projects import Project

COUNTED = [{"name": "count", "verb": "clock", "inputs": ["weights"]}]
BLOWN = [{"name": "blow", "verb": "blow", "inputs": ["src/a"], "parameters": {"size": 256 << 20}}]


def seconds(project: Project, rounds: int = 1) -> float:
    """Median wall time of a doit."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "doit"], cwd=project.folder, env=project.environment(), check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def weights(folder: Path, size: int, rounds: int) -> dict[str, float]:
    project = Project(folder, COUNTED)
    (folder / "weights").mkdir()
    file = folder / "weights/model.safetensors"
    file.touch()
    os.truncate(file, size)
    seconds(project)
    found = {"noop_s": seconds(project, rounds)}
    for _ in range(2):
        os.utime(file)
        found["after_touch_s"] = seconds(project)
        found["after_that_s"] = seconds(project, rounds)
    found["touch_gb_per_s"] = size / 1e9 / max(found["after_touch_s"] - found["after_that_s"], 1e-9)
    return found


def restoring(folder: Path, rounds: int) -> dict[str, float]:
    """Build two outputs, then go back and forth between them; a no-op's time is taken off both."""
    project = Project(folder, BLOWN)
    texts = ("alpha and omega", "another text")
    builds, restores = list[float](), list[float]()
    for number in range(2 * rounds + 2):
        project.write("src/a/x.txt", texts[number % 2])
        (builds if number < 2 else restores).append(seconds(project))
    noop = seconds(project, 2 * rounds)
    build, restore = statistics.median(builds) - noop, statistics.median(restores) - noop
    return {"noop_s": noop, "build_s": build, "restore_s": restore, "ratio": build / max(restore, 1e-3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="big") as name:
        folder = Path(name)
        found = {"small": weights(folder / "small", 1 << 20, given.rounds),
                 "large": weights(folder / "large", int(given.gigabytes * (1 << 30)), given.rounds),
                 "restoring": restoring(folder / "restoring", given.rounds)}  # fmt: skip
    rounded = {name: {key: round(value, 3) for key, value in row.items()} for name, row in found.items()}
    print(json.dumps({**rounded, "gigabytes": given.gigabytes, "machine": fingerprint()}, indent=1))


if __name__ == "__main__":
    main()

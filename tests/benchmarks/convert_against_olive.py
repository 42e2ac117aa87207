"""One export and two quantisations, against three Olive conversions from the checkpoint; prints JSON.

    python -m tests.benchmarks.convert_against_olive --checkpoint build/triage/checkpoint --runs 3

"ingot" is what a user types, `doit quantize:it-int8 quantize:it-int4`, with the checkpoint there and nothing else: an
export and both precisions, each loaded and generated with at the end, doit's start and the engine's records included;
"ingot_auto" is the same with `-n auto`, as `make` does it. "olive" is the classic recipe: one Olive workflow per
precision (float32, int8, int4 in blocks of 32), HfModel in, the pass ModelBuilder, bridged to builder 0.18; nothing is
loaded afterwards. They take turns, on the same machine, in the same run. Wall is the sum over the processes, in
seconds; peak is the greatest memory of any process tree, where a page that several processes share counts once (PSS).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
WALL_LIMIT, PEAK_LIMIT = 0.5, 0.5
PRECISIONS = ("int8", "int4")
_MODELS = """[[model]]
name = "it"
source = {{ path = {source} }}
precisions = {precisions}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "build" / "triage" / "checkpoint")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--olive", metavar="PRECISION", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.olive:
        convert_with_olive(given.checkpoint, given.olive, given.output)
        return
    checkpoint = given.checkpoint.resolve()
    runs = []
    for _ in range(given.runs):
        run = {}
        for name, how in ("ingot", []), ("ingot_auto", ["-n", "auto"]):
            with tempfile.TemporaryDirectory() as folder:
                run[name] = with_ingot(checkpoint, Path(folder), how)
        with tempfile.TemporaryDirectory() as folder:
            run["olive"] = with_olive(checkpoint, Path(folder))
        print(json.dumps(run), file=sys.stderr, flush=True)
        runs.append(run)
    result = {
        "wall_ratio": ratio(runs, "ingot", "wall_seconds"),
        "peak_ratio": ratio(runs, "ingot", "peak_bytes"),
        "auto": {"wall_ratio": ratio(runs, "ingot_auto", "wall_seconds"),
                 "peak_ratio": ratio(runs, "ingot_auto", "peak_bytes")},
        "cpu_ratio": ratio(runs, "ingot", "cpu_seconds"),
        "limits": {"wall_ratio": WALL_LIMIT, "peak_ratio": PEAK_LIMIT},
        "conditions": {
            "cpus": psutil.cpu_count(),
            "load": psutil.getloadavg(),
            "memory": psutil.virtual_memory().total,
        },
        "runs": runs,
    }  # fmt: skip
    result["passed"] = result["wall_ratio"] <= WALL_LIMIT and result["peak_ratio"] <= PEAK_LIMIT
    print(json.dumps(result, indent=2))


def ratio(runs: list[dict[str, Any]], name: str, figure: str) -> float:
    """The median over the runs of `figure` beside Olive's."""
    found: list[float] = [run[name][figure] / run["olive"][figure] for run in runs]
    return round(statistics.median(found), 3)


def with_ingot(checkpoint: Path, folder: Path, how: list[str]) -> dict[str, Any]:
    """A build of both precisions, as the shipped recipes say; the step `checkpoint` is done before."""
    config = folder / "config"
    config.mkdir()
    shutil.copy(ROOT / "config" / "recipes.toml", config)
    models = _MODELS.format(source=json.dumps(str(checkpoint)), precisions=json.dumps(PRECISIONS))
    (config / "models.toml").write_text(models, encoding="utf-8")
    doit = [sys.executable, "-m", "doit", *how, f"config={config}", f"build={folder / 'build'}"]
    measure([*doit, "checkpoint:it"])
    return measure([*doit, *(f"quantize:it-{name}" for name in PRECISIONS)])


def with_olive(checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Three conversions from the checkpoint."""
    program = [sys.executable, "-m", "tests.benchmarks.convert_against_olive", "--checkpoint", str(checkpoint)]
    steps = {
        name: measure([*program, "--olive", name, "--output", str(folder / f"olive-{name}")])
        for name in ("fp32", *PRECISIONS)
    }
    return {
        "wall_seconds": round(sum(step["wall_seconds"] for step in steps.values()), 2),
        "cpu_seconds": round(sum(step["cpu_seconds"] for step in steps.values()), 2),
        "peak_bytes": max(step["peak_bytes"] for step in steps.values()),
        "steps": steps,
    }


def convert_with_olive(checkpoint: Path, precision: str, output: Path) -> None:
    """One classic conversion, in this process."""
    from scripts.convert import olive

    output.mkdir()
    workflow = {
        "input_model": olive.from_checkpoint(checkpoint),
        **olive.systems("cpu"),
        "passes": {"builder": {"type": "ModelBuilder", "precision": precision}},
    }
    olive.run(workflow, output, lambda: None)  # Olive imports what it needs


def measure(command: list[str]) -> dict[str, float]:
    """Run `command` to its end; wall time and CPU time, and the peak of its process tree's memory in bytes."""
    with tempfile.TemporaryFile("w+") as log:
        start, before = time.perf_counter(), os.times()
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        peak = 0
        while child.poll() is None:
            peak = max(peak, tree_bytes(child.pid))
            time.sleep(0.05)
        wall, after = time.perf_counter() - start, os.times()
        if child.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{log.read()[-3000:]}")
    cpu = sum(after[2:4]) - sum(before[2:4])
    return {"wall_seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "peak_bytes": peak}


def tree_bytes(pid: int) -> int:
    """Memory of a process and all below it; shared pages count once where the system tells (Linux)."""
    found = 0
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        for process in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # it ended between two looks
                memory = process.memory_full_info()
                found += getattr(memory, "pss", memory.rss)
    return found


if __name__ == "__main__":
    main()

"""One export and two quantisations, against three Olive conversions from the checkpoint; prints JSON.

    python tests/benchmarks/convert_against_olive.py --checkpoint build/triage/checkpoint --runs 3

"ingot" is what the build runs: export, int8 and int4, each a process of its own, each loaded and generated with at the
end. "olive" is the classic recipe: one Olive workflow per precision (float32, int8, int4 in blocks of 32), HfModel in,
the pass ModelBuilder, bridged to builder 0.18; nothing is loaded afterwards. Both take turns, on the same machine, in
the same run. Wall is the sum over the processes, in seconds; peak is the greatest resident memory of any process tree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import tomli

ROOT = Path(__file__).resolve().parents[2]
WALL_LIMIT, PEAK_LIMIT = 0.9, 0.75


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
        with tempfile.TemporaryDirectory() as folder:
            runs.append({"ingot": with_ingot(checkpoint, Path(folder)), "olive": with_olive(checkpoint, Path(folder))})
    wall = [run["ingot"]["wall_seconds"] / run["olive"]["wall_seconds"] for run in runs]
    peak = [run["ingot"]["peak_rss_bytes"] / run["olive"]["peak_rss_bytes"] for run in runs]
    result = {
        "wall_ratio": round(statistics.median(wall), 3),
        "peak_rss_ratio": round(statistics.median(peak), 3),
        "limits": {"wall_ratio": WALL_LIMIT, "peak_rss_ratio": PEAK_LIMIT},
        "conditions": {
            "cpus": psutil.cpu_count(),
            "load": psutil.getloadavg(),
            "memory": psutil.virtual_memory().total,
        },
        "runs": runs,
    }
    result["passed"] = result["wall_ratio"] <= WALL_LIMIT and result["peak_rss_ratio"] <= PEAK_LIMIT
    print(json.dumps(result, indent=2))


def with_ingot(checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Export, then both precisions as the shipped recipes say."""
    recipes = tomli.loads((ROOT / "config" / "recipes.toml").read_text(encoding="utf-8"))
    convert, export = [sys.executable, "-m", "scripts.convert"], folder / "export"
    steps = {"fp32": measure([*convert, "export", "--checkpoint", str(checkpoint), "--output", str(export)])}
    for name in ("int8", "int4"):
        words = ["quantize", "--export", str(export), "--recipe", json.dumps(recipes[name])]
        steps[name] = measure([*convert, *words, "--output", str(folder / name)])
    return total(steps)


def with_olive(checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Three conversions from the checkpoint."""
    program = [sys.executable, str(Path(__file__).resolve()), "--checkpoint", str(checkpoint)]
    steps = {}
    for name in ("fp32", "int8", "int4"):
        steps[name] = measure([*program, "--olive", name, "--output", str(folder / f"olive-{name}")])
    return total(steps)


def convert_with_olive(checkpoint: Path, precision: str, output: Path) -> None:
    """One classic conversion, in this process."""
    sys.path.insert(0, str(ROOT))
    from scripts.convert import olive

    output.mkdir()
    workflow = {
        "input_model": olive.from_checkpoint(checkpoint),
        **olive.systems("cpu"),
        "passes": {"builder": {"type": "ModelBuilder", "precision": precision}},
    }
    olive.run(workflow, output, lambda: None)  # Olive imports what it needs


def measure(command: list[str]) -> dict[str, float]:
    """Run `command` to its end; its wall time, CPU time and the peak of its process tree's resident memory."""
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        process, peak, cpu = psutil.Process(child.pid), 0, 0.0
        while child.poll() is None:
            try:
                peak = max(peak, sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]))
                cpu = sum(process.cpu_times()[:4])
            except psutil.Error:  # it ended between two looks
                continue
            time.sleep(0.02)
        wall = time.perf_counter() - start
        if child.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{log.read()[-3000:]}")
    return {"wall_seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "peak_rss_bytes": peak}


def total(steps: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {
        "wall_seconds": round(sum(step["wall_seconds"] for step in steps.values()), 2),
        "cpu_seconds": round(sum(step["cpu_seconds"] for step in steps.values()), 2),
        "peak_rss_bytes": max(step["peak_rss_bytes"] for step in steps.values()),
        "steps": steps,
    }


if __name__ == "__main__":
    main()

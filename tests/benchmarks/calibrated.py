"""What calibrating costs: int4-best beside int4, and with numpy's own threads, in seconds of the processor.

    python -m tests.benchmarks.calibrated EXPORT CHECKPOINT TEXT...

EXPORT and CHECKPOINT are those of one model, such as build/triage/export and build/triage/checkpoint; TEXT are files to
calibrate on. Each is made in a process of its own, one after the other. Prints JSON: seconds by the clock and of the
processor, and the ratios of the latter. The two of int4-best must come out the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.common.machine import fingerprint
from scripts.settings.recipes import PROJECT_CONFIG, read_recipes

WAYS = {"int4": "int4", "int4-best": "int4-best", "numpy's threads": "int4-best"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("text", type=Path, nargs="+")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        make(asked.way, asked.export, asked.checkpoint, asked.text, asked.output)
        return
    found, weights = {}, {}
    with tempfile.TemporaryDirectory(prefix=".calibrated-", dir=asked.export.parent) as scratch:
        for way in WAYS:
            output, began, before = Path(scratch) / way, time.monotonic(), os.times()
            words = [*sys.argv[1:], "--way", way, "--output", str(output)]
            subprocess.run([sys.executable, "-m", __spec__.name, *words], check=True, stdout=subprocess.DEVNULL)
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            found[way] = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(used, 1)}
            weights[way] = (output / "model.onnx.data").read_bytes()
    best = found["int4-best"]["cpu_seconds"]
    print(json.dumps({
        **found,
        "int4-best beside int4": round(best / found["int4"]["cpu_seconds"], 2),
        "int4-best beside numpy's threads": round(best / found["numpy's threads"]["cpu_seconds"], 2),
        "the same": weights["int4-best"] == weights["numpy's threads"],
        "machine": fingerprint(),
    }, indent=1))  # fmt: skip


def make(way: str, export: Path, checkpoint: Path, texts: list[Path], output: Path) -> None:
    """Quantise as the step does."""
    from scripts.convert import blas
    from scripts.convert.quantize import quantize

    if way == "numpy's threads":
        blas._library = lambda: None  # type: ignore[assignment]
    recipe = read_recipes(PROJECT_CONFIG).sound[WAYS[way]]
    quantize(export, dict(recipe.steps), output, checkpoint, texts)


if __name__ == "__main__":
    main()

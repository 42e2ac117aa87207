"""What an answer costs with and without keeping memory from one request to the next.

    python -m tests.benchmarks.answers PACKAGE CASES [--first=16]

The same cases are put to the package in a process of its own each, so that neither finds the other's memory. Prints
JSON: seconds of the processor an answer, of the system alone, peak resident bytes, and the ratio of the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--first", type=int, default=16)
    parser.add_argument("--kept", choices=["0", "1"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.kept is not None:
        print(json.dumps(measure(asked.package, asked.cases, asked.first, asked.kept == "1")))
        return
    found = {}
    for name, kept in (("returned", "0"), ("kept", "1")):
        done = subprocess.run([sys.executable, "-m", __spec__.name, *sys.argv[1:], "--kept", kept], check=True,
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
        found[name] = json.loads(done.stdout.splitlines()[-1])
    assert found["kept"].pop("texts") == found["returned"].pop("texts"), "the answers differ"
    ratio = found["kept"]["cpu_seconds"] / found["returned"]["cpu_seconds"]
    print(json.dumps({**found, "ratio": round(ratio, 3)}, indent=1))


def measure(package: Path, file: Path, first: int, kept: bool) -> dict[str, Any]:
    """Seconds an answer, after one that is not counted."""
    import resource

    from scripts.cases import cases
    from scripts.runtime.foundry import Runtime

    with Runtime(keep_memory=kept) as runtime:
        runtime.register(package, "asked-generic-cpu:1")
        chat = runtime.load("asked-generic-cpu:1")
        asked = cases.load(file)[: first + 1]
        texts = [chat.complete(asked[0].messages, max_tokens=asked[0].max_tokens).text]
        before = os.times()
        texts += [chat.complete(case.messages, max_tokens=case.max_tokens).text for case in asked[1:]]
        after = os.times()
    count = len(asked) - 1
    system = after.system - before.system
    return {
        "cpu_seconds": round((after.user - before.user + system) / count, 4),
        "system_seconds": round(system / count, 4),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "texts": texts,
    }


if __name__ == "__main__":
    main()

"""Is this machine ready? One line for each thing that Ingot needs, with what to do where it is missing.

    python -m scripts.doctor [--config DIR] [--build DIR] [--cache DIR] [--need-disk BYTES] [--lock FILE]

Exits 1 if something needed is missing; what is merely good to know never fails.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from scripts.common import terminal
from scripts.doctor.diagnosis import diagnose
from scripts.doctor.findings import render


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="doctor", description="Is this machine ready for Ingot?")
    parser.add_argument("--cache", help='the Foundry cache: a folder, "app:NAME", or "auto"')
    parser.add_argument("--config", type=Path, help="folder of models.toml: judge all that is configured there")
    parser.add_argument("--build", type=Path, help="the build folder, default build")
    parser.add_argument("--need-disk", type=int, metavar="BYTES", help="what the build will need, else an estimate")
    parser.add_argument("--lock", type=Path, help="the pinned versions, default requirements.lock")
    given = parser.parse_args(arguments)
    lines = diagnose(given.cache, given.need_disk, given.lock, config=given.config, build=given.build)
    try:
        print(render(lines, terminal.obeys(sys.stdout), terminal.columns(sys.stdout)), flush=True)
    except BrokenPipeError:  # `doit doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if any(line.status == "bad" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())

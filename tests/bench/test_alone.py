"""Steps that measure run alone: whatever `-n`, and across builds of this machine."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from tests.engine.projects import Project


def test_steps_that_measure_run_alone_across_two_builds(tmp_path: Path) -> None:
    projects = [Project(tmp_path / name) for name in ("one", "two")]
    for project in projects:
        project.declare([{"name": f"clock{n}", "verb": "clock", "inputs": ["src/a"], "alone": n < 2} for n in range(4)])
    (tmp_path / "tmp").mkdir()  # where builds of one machine meet
    running = [project.start("-n", "4", TMPDIR=str(tmp_path / "tmp")) for project in projects]
    for child in running:
        said = child.communicate(timeout=120)[0]
        assert child.returncode == 0, said
    spans = [
        (json.loads((project.build / f"clock{n}.json").read_text()), n < 2) for project in projects for n in range(4)
    ]
    for (one, alone), (other, other_alone) in itertools.combinations(spans, 2):
        if alone or other_alone:
            assert one["to"] <= other["from"] or other["to"] <= one["from"]


def test_what_measures_is_declared_to_run_alone_and_is_no_part_of_the_default_build() -> None:
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    code = (
        "from doit.doit_cmd import reset_vars\n"
        "reset_vars()\n"
        "import dodo\n"
        "report = dodo.report()\n"
        "for make in (dodo.bench, dodo.bench_full, dodo.soak):\n"
        "    step = make(dodo.PRECISIONS[0])\n"
        "    needed = step in report.upstream\n"
        "    after = [other.name.split(':')[0] for other in step.follows]\n"
        "    print(step.name.split(':')[0], step.alone, needed, step.storable, *after)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "bench True True False quality quality domain",  # what they refuse is measured only where it is named
        "bench-full True False False",
        "soak True False False",
    ]

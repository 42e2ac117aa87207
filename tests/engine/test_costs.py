"""What a step costs the machinery, in file operations: among more steps none costs more, and one that is up to date
costs no more than a look at each of its files.
"""

from __future__ import annotations

import builtins
import os
from collections import Counter
from typing import Any

import pytest

from tests.engine.projects import Project
from tests.faults import forked

#: Stats that three steps may cost which are up to date: of files, the engine's own two with each output, and folders:
#: 4 of `copy`, 7 of `split`, 2 of `count`; of where the marker of a failure would be, each; of the user's folder.
LOOKS = 4 + 7 + 2 + 3 + 1


def graph(chains: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(chains):
        rows.append(
            {"name": f"copy:{number}", "verb": "copy", "inputs": ["src/b"], "parameters": {"suffix": f"{number}"}}
        )
        rows.append(
            {"name": f"split:{number}", "verb": "split", "inputs": [f"copy:{number}"], "parameters": {"size": 2}}
        )
        rows.append({"name": f"count:{number}", "verb": "count", "inputs": [f"split:{number}"]})
    return rows


def counted(project: Project, *words: str) -> Counter[str]:
    """Run doit; how often it looked at a file, opened one, and asked the state file."""
    seen = project.folder / "operations"

    def count() -> None:
        handle, write = os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), os.write

        def noted(name: str, function: Any) -> Any:
            def call(*args: Any, **named: Any) -> Any:
                if not (args and str(args[0]).startswith("/proc")):  # a child's memory is looked at while it lives
                    write(handle, name.encode())
                return function(*args, **named)

            return call

        os.stat, builtins.open = noted("s", os.stat), noted("o", builtins.open)
        os.scandir, os.listdir = noted("d", os.scandir), noted("d", os.listdir)

    assert forked.end(forked.start(project, *words, before=count)) == 0, (project.folder / "said.txt").read_text()
    return Counter(seen.read_text())


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Counter[str]]]:
    """By number of chains, and by command."""
    found = {}
    for chains in (2, 4, 8):
        project = Project(tmp_path_factory.mktemp("many") / "project", graph(chains))
        build = counted(project, "run")
        found[chains] = {"build": build, "nothing": counted(project, "run"), "why": counted(project, "why")}
    return found


@pytest.mark.parametrize("command", ["nothing", "why"])
def test_what_is_up_to_date_costs_a_look_at_each_of_its_files(
    command: str, counts: dict[int, dict[str, Counter[str]]]
) -> None:
    few, many = counts[2][command], counts[8][command]
    assert many["s"] - few["s"] <= 6 * LOOKS
    assert many["o"] <= few["o"], "no file is opened"
    assert many["d"] - few["d"] <= (6 if command == "why" else 0), "no folder is listed but the user's, once a step"


def test_a_step_costs_the_same_among_more_steps(counts: dict[int, dict[str, Counter[str]]]) -> None:
    a, b, c = (counts[chains]["build"] for chains in (2, 4, 8))
    for kind in "sod":
        assert (c[kind] - b[kind]) / 4 == pytest.approx((b[kind] - a[kind]) / 2, rel=0.1), kind

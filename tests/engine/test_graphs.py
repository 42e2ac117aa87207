"""For any graph of small artifacts and any edits: exactly the steps whose key or bytes changed are built, no others."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.projects import Project
from tests.faults import forked

#: What a step of these does to the texts that it reads, as Python: the model that the engine is compared with.
VERBS: dict[str, Callable[[dict[str, Any], list[dict[str, str]]], dict[str, str]]] = {
    "copy": lambda row, read: {
        f"{number}-{name.split('/')[-1]}": text + row["parameters"].get("suffix", "")
        for number, files in enumerate(read) for name, text in sorted(files.items())
    },
    "join": lambda _, read: {"all.txt": "".join(text for files in read for _, text in sorted(files.items()))},
    "first": lambda _, read: {"first.txt": "".join(text for files in read for _, text in sorted(files.items()))[:1]},
}  # fmt: skip
SOURCES = ("s0", "s1", "s2")


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(draw(st.integers(2, 6))):
        above = [f"src/{name}" for name in SOURCES] + [row["name"] for row in rows]
        verb = draw(st.sampled_from(sorted(VERBS)))
        inputs = draw(st.lists(st.sampled_from(above), min_size=1, max_size=2, unique=True))
        rows.append({"name": f"n{number}", "verb": verb, "inputs": inputs, "parameters": {}, "tools": []})
    return rows


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["change", "touch", "truncate", "add", "delete", "revert", "rename", "swap", "parameter",
                         "tool", "output", "remove output", "nothing"]),
        st.integers(0, 5), st.integers(0, 5),
    ), min_size=2, max_size=5,
)  # fmt: skip


class Simulation:
    """A project, and what should be in it."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        self.rows, self.tool = rows, "1"
        self.project = Project(folder, rows)
        shutil.rmtree(folder / "src")
        self.sources = {name: {"x": f"text {name}", "y": f"more {name}"} for name in SOURCES}
        self.first = json.loads(json.dumps(self.sources))
        for name, files in self.sources.items():
            for file, text in files.items():
                self.project.write(f"src/{name}/{file}", text)
        self.keys: dict[str, str] = {}
        self.damaged: set[str] = set()

    def edit(self, what: str, one: int, other: int) -> None:
        name, row = SOURCES[one % 3], self.rows[one % len(self.rows)]
        files, folder = self.sources[name], self.project.folder / "src" / name
        file = sorted(files)[other % len(files)] if files else None
        if what == "parameter":
            row["parameters"] = {"suffix": f"{other}"} if row["verb"] == "copy" else {}
        elif what == "tool":
            self.tool = f"{other}"
            row["tools"] = ["a-tool"]
        elif what == "add":
            files[f"z{other}"] = f"added {other}"
            self.project.write(f"src/{name}/z{other}", f"added {other}")
        elif what == "revert":
            self._replace(name, self.first[name])
        elif what in ("output", "remove output"):
            self._harm(row, what)
        elif file is None:
            return
        elif what == "touch":
            os.utime(folder / file, (other, other))
        elif what == "rename":
            (folder / file).rename(folder / f"r{other}")
            files[f"r{other}"] = files.pop(file)
        elif what == "delete":
            (folder / file).unlink()
            del files[file]
        elif what == "swap" and len(files) > 1:
            values = list(reversed([files[key] for key in sorted(files)]))
            self._replace(name, dict(zip(sorted(files), values, strict=True)))
        elif what in ("change", "truncate"):
            files[file] = files[file][: other % 3] if what == "truncate" else f"{files[file][:5]}{other}"
            status = (folder / file).stat()
            (folder / file).write_text(files[file])
            if what == "change":  # and hide it as well as can be
                os.utime(folder / file, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _replace(self, name: str, files: dict[str, str]) -> None:
        shutil.rmtree(self.project.folder / "src" / name)
        (self.project.folder / "src" / name).mkdir()
        self.sources[name] = dict(files)
        for file, text in files.items():
            self.project.write(f"src/{name}/{file}", text)

    def _harm(self, row: dict[str, Any], what: str) -> None:
        found = sorted(path for path in (self.project.build / row["name"]).rglob("*") if path.is_file()
                       and path.suffix != ".json")  # fmt: skip
        if found and what == "output":
            found[0].write_text("harmed " + found[0].read_text())
            self.damaged.add(row["name"])
        elif found:
            found[0].unlink()
            self.damaged.add(row["name"])

    def expected(self) -> tuple[set[str], dict[str, dict[str, str]]]:
        """The steps that must be built, and what must be there: computed from the texts, by the model."""
        outputs: dict[str, dict[str, str]] = {}
        due, failed = set(), set()
        for row in self.rows:
            read = [self.sources[name[4:]] if name.startswith("src/") else outputs.get(name, {})
                    for name in row["inputs"]]  # fmt: skip
            if any(name in failed for name in row["inputs"]):
                failed.add(row["name"])
                continue
            outputs[row["name"]] = VERBS[row["verb"]](row, read)
            tools = [self.tool] if row["tools"] else []
            key = json.dumps([row["verb"], read, row["parameters"], tools, len(row["inputs"])], sort_keys=True)
            if not outputs[row["name"]]:
                failed.add(row["name"])  # an empty artifact is a failure, tried again each time
            elif self.keys.get(row["name"]) != key or row["name"] in self.damaged:
                due.add(row["name"])
                self.keys[row["name"]] = key
        self.damaged -= due
        return due, {name: files for name, files in outputs.items() if name not in failed}

    def run(self) -> set[str]:
        self.project.declare(self.rows)
        site = self.project.folder / f"site{self.tool}"
        (site / f"a_tool-{self.tool}.dist-info").mkdir(parents=True, exist_ok=True)
        import sys

        code = forked.end(forked.start(self.project, before=lambda: sys.path.insert(0, str(site))))
        assert code in (0, 1)
        said = (self.project.folder / "said.txt").read_text()
        assert "Traceback" not in said, said
        return {line.split()[1] for line in said.splitlines() if line.startswith("✓ ")}

    def present(self, names: set[str]) -> dict[str, dict[str, str]]:
        return {
            name: {path.relative_to(self.project.build / name).as_posix(): path.read_text()
                   for path in (self.project.build / name).rglob("*") if path.is_file()
                   and path.name not in ("manifest.json", "provenance.json")}
            for name in names
        }  # fmt: skip


def play(rows: list[dict[str, Any]], edits: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Simulation(Path(folder) / "project", rows)
        for edit in [("nothing", 0, 0), *edits]:
            project.edit(*edit)
            due, outputs = project.expected()
            assert project.run() == due, edit
            assert project.present(set(outputs)) == outputs, edit


SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


@settings(max_examples=8, **SETTINGS)  # type: ignore[arg-type]
@given(graphs(), EDITS)
def test_exactly_what_changed_is_built(rows: list[dict[str, Any]], edits: list[tuple[str, int, int]]) -> None:
    play(rows, edits)


@pytest.mark.long
@settings(max_examples=60, **SETTINGS)  # type: ignore[arg-type]
@given(graphs(), EDITS)
def test_exactly_what_changed_is_built_in_many_graphs(
    rows: list[dict[str, Any]], edits: list[tuple[str, int, int]]
) -> None:
    play(rows, edits)

"""Small projects over the real engine and doit, with cheap verbs: written to a folder, run as users run them."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

DODO = """
import json
from pathlib import Path
from doit import get_var
from scripts.common.process import Limits
from scripts.doit_plugin.tasks import Tasks, task
from scripts.engine.session import Place, Session
from scripts.engine.step import ExternalState

HERE = Path(__file__).parent
BUILD = Path(get_var("build", "build")).absolute()
STORE = HERE / "store.json"
SESSION = Session(BUILD, package="tests.engine.stages",
                  shared=Place(*json.loads(STORE.read_text())[:2]) if STORE.exists() else None,
                  cluster=json.loads(STORE.read_text())[2] if STORE.exists() else None)
MADE, REMOVALS = {}, []
for row in json.loads((HERE / get_var("graph", "graph.json")).read_text()):
    name, verb = row["name"], row["verb"]
    end = ".json" if verb in ("count", "clock", "place") or row.get("result") else ""
    MADE[name] = SESSION.step(
        name, BUILD / (name.replace(":", "/") + end), stage="text", verb=verb,
        inputs={"source": tuple(
            MADE[source[0]].part(source[1]) if isinstance(source, list) else MADE.get(source) or HERE / source
            for source in row.get("inputs", []))},
        parts={part: tuple(patterns) for part, patterns in row.get("parts", {}).items()},
        verdicts={"source": tuple(MADE[source] for source in row.get("verdicts", []))} if "verdicts" in row else {},
        parameters=row.get("parameters", {}), tools=row.get("tools", ()), alone=row.get("alone", False),
        limits=Limits(**row.get("limits", {})), stored=row.get("stored", True), shows=row.get("shows"),
        forms=row.get("forms", {}), tied=row.get("tied", False), resources=row.get("resources"),
        tools_of={"tools": tuple(MADE[other] for other in row["tools_of"])} if "tools_of" in row else None,
        follows=[MADE[other] for other in row.get("follows", [])],
        optional=[MADE[other] for other in row.get("optional", [])], preflight=row.get("preflight"),
        external_state=ExternalState(
            lambda result: [result["place"]],
            lambda result, digest: None if Path(result["place"]).exists() else f"{result['place']} is gone")
        if verb == "place" else None,
    )
    if "removed_after" in row:
        REMOVALS.append((name, row.get("removes", "*.bin"), row["removed_after"]))
for name, pattern, after in REMOVALS:
    SESSION.remove_files([MADE[name]], [pattern], after=[MADE[other] for other in after])
DOIT_CONFIG = Tasks(SESSION).config(default_tasks=list(MADE))

def task_steps():
    for step in MADE.values():
        yield task(SESSION, step, "A step")
"""

#: doit's commands as Ingot extends them, which a project names for itself.
PLUGINS = "".join(re.findall(
    r"^\[tool\.doit[.\w]*\]\n(?:[^\[].*\n)*", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))  # fmt: skip

#: copy and split for two texts, one joined output, one shared file, one result: every kind of edge, in 1 s.
CHEAP: Sequence[Mapping[str, Any]] = (
    {"name": "copy:a", "verb": "copy", "inputs": ["src/a"]},
    {"name": "copy:b", "verb": "copy", "inputs": ["src/b"]},
    {"name": "split:a", "verb": "split", "inputs": ["copy:a"], "parameters": {"size": 4}},
    {"name": "join", "verb": "join", "inputs": ["split:a", "copy:b"]},
    {"name": "relink", "verb": "relink", "inputs": ["join"]},
    {"name": "count", "verb": "count", "inputs": ["relink"]},
)


class Project:
    """A folder with a `dodo.py`; what its steps are is in `graph.json`."""

    def __init__(self, folder: Path, graph: Sequence[Mapping[str, Any]] = CHEAP) -> None:
        self.folder = folder
        self.build = folder / "build"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dodo.py").write_text(DODO)
        (folder / "pyproject.toml").write_text(PLUGINS)
        self.declare(graph)
        self.write("src/a/x.txt", "alpha and omega")
        self.write("src/b/y.txt", "beta")

    def declare(self, graph: Sequence[Mapping[str, Any]]) -> None:
        (self.folder / "graph.json").write_text(json.dumps(list(graph)))

    def share(self, url: str, *, write: bool, cluster: str | None = None) -> None:
        """Use a shared store, and the workers of a Dask scheduler."""
        (self.folder / "store.json").write_text(json.dumps([url, write, cluster]))

    def set(self, name: str, **changes: Any) -> None:
        """Change the declaration of one step."""
        rows = json.loads((self.folder / "graph.json").read_text())
        self.declare([{**row, **changes} if row["name"] == name else row for row in rows])

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "doit", *words]

    def environment(self, **more: str) -> dict[str, str]:
        # A temporary folder of its own: a measurement elsewhere on this machine must not keep the tests waiting.
        (self.folder / "tmp").mkdir(exist_ok=True)
        return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self.folder / "tmp"), **more}

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words), cwd=self.folder, env=self.environment(**env), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def doit(self, *words: str, code: int = 0, **env: str) -> str:
        """Run doit, see that it exits as expected and without a traceback; what it printed."""
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment(**env), capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said, said
        return said

    def built(self, *words: str, code: int = 0, **env: str) -> builtins.set[str]:
        """Run doit; the steps that did anything: built, restored or kept."""
        return ran(self.doit(*words, code=code, **env))

    def contents(self) -> dict[str, str]:
        """Everything in the build folder under a final name, digested; not logs, state or store."""
        found = {}
        for path in sorted(self.build.rglob("*")):
            name = path.relative_to(self.build).as_posix()
            if path.is_file() and not name.startswith((".work/", ".locks/", "logs/", "store/", "state.db")):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def litter(self) -> list[str]:
        """What is left in the work folder."""
        work = self.build / ".work"
        return sorted(path.name for path in work.iterdir()) if work.exists() else []


def ran(said: str) -> set[str]:
    """The steps that a run built, restored or kept."""
    return {line.split()[1] for line in said.splitlines() if line.startswith("✓ ")}


def install(folder: Path, version: str) -> str:
    """A PYTHONPATH on which a distribution called a-tool is installed."""
    made = folder / version / f"a_tool-{version}.dist-info"
    made.mkdir(parents=True)
    return os.pathsep.join(filter(None, [str(made.parent), os.environ.get("PYTHONPATH")]))

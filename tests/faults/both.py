"""The same two tasks, `one` (a text, copied) and `two` (its copy, joined), under doit alone and under the engine."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engine.projects import Project
from tests.faults import forked

_PLAIN = r"""
import json
from pathlib import Path
SETTINGS = json.loads(Path("settings.json").read_text())
DOIT_CONFIG = {"default_tasks": ["two"], "verbosity": 2, **SETTINGS.get("config", {})}

def task_one():
    wait, end = SETTINGS.get("delay", 0), SETTINGS.get("suffix", "")
    return {"actions": ["echo one >> ran.txt; mkdir -p build; head -c 2 src/a/x.txt > build/one.txt; "
                        f"sleep {wait}; tail -c +3 src/a/x.txt >> build/one.txt; printf '{end}' >> build/one.txt"],
            "file_dep": ["src/a/x.txt"], "targets": ["build/one.txt"]}

def task_two():
    return {"actions": ["echo two >> ran.txt; cat build/one.txt > build/two.txt", *SETTINGS.get("then", [])],
            "file_dep": ["build/one.txt"], "targets": ["build/two.txt"]}
"""


class Plain(Project):
    """doit as it comes; its tasks written as its users write them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [])
        self.write("dodo.py", _PLAIN)
        (folder / "pyproject.toml").unlink()  # it names Ingot's commands
        self.settings: dict[str, Any] = {}
        self.configure()

    def configure(self, **settings: Any) -> None:
        """`delay` seconds in the middle of one, `suffix` at its end."""
        self.settings.update(settings)
        self.write("settings.json", json.dumps(self.settings))

    def output(self, name: str) -> Path:
        return self.build / f"{name}.txt"

    def begin(self, *words: str, before: Callable[[], None] | None = None, to: str = "other.txt") -> int:
        return forked.start(self, *words, before=before, to=to)

    def run(self, *words: str, before: Callable[[], None] | None = None) -> tuple[int, str]:
        """Exit code, and what was printed."""
        code = forked.end(self.begin(*words, before=before, to="said.txt"))
        return code, (self.folder / "said.txt").read_text()

    def runs(self, name: str) -> int:
        """How often a task has run."""
        found = self.folder / "ran.txt"
        return found.read_text().split().count(name) if found.exists() else 0

    def until_running(self, name: str) -> None:
        """Wait until a task's action is at work."""
        del name
        forked.wait_for(lambda: self.runs("one") > 0 and self.output("one").exists())
        time.sleep(0.1)


class Ingot(Plain):
    """The same under the engine."""

    def __init__(self, folder: Path) -> None:
        Project.__init__(self, folder, [])
        self.settings = {}
        self.configure()

    def configure(self, **settings: Any) -> None:
        self.settings.update(settings)
        own = {name: value for name, value in self.settings.items() if name in ("delay", "suffix")}
        self.declare([{"name": "one", "verb": "copy", "inputs": ["src/a"], "parameters": own},
                      {"name": "two", "verb": "join", "inputs": ["one"]}])  # fmt: skip

    def output(self, name: str) -> Path:
        return self.build / {"one": "one/0-x.txt", "two": "two/all.txt"}[name]

    def run(self, *words: str, before: Callable[[], None] | None = None) -> tuple[int, str]:
        code, said = super().run(*words, before=before)
        with (self.folder / "ran.txt").open("a") as file:
            file.writelines(f"{line.split()[1]}\n" for line in said.splitlines() if "  built in" in line)
        return code, said

    def until_running(self, name: str) -> None:
        forked.wait_for(lambda: any(self.build.glob(f".work/{name}.*/{name}/*")))


def kill(pid: int, number: int = signal.SIGKILL) -> int:
    os.kill(pid, number)
    return forked.end(pid)

"""What a stranger's file may cost: a minute and 2 GB for the tree of processes, whether it is doit or a stage alone.

`Stages` runs a stage's program in a fork of a process that has the heavy libraries loaded: what a started one does, in
a fraction of the time. `Hostile` is a project with doit under the same limits, and a sound model beside the bad ones.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scripts.common import json_child, process
from tests.system.project import ROOT, Project

SECONDS, MEMORY = 60.0, 2 * 10**9
LIMITS = process.Limits(SECONDS, MEMORY)
#: The share of `watch`'s limits of time that programs in forks are given: a test of one waits 2 s instead of 10.
PACE = 0.2
#: What does not stand for a letter: controls, format characters such as marks of direction and of zero width,
#: surrogates, and Unicode's own ends of lines.
UNCLEAN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class Ended(NamedTuple):
    """How a program ended, what it wrote, how long it took and what its tree held in memory, in bytes."""

    code: int
    out: str
    seconds: float
    peak: int


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, limits: process.Limits = LIMITS) -> Ended:
    """Run a program under the limits; that it breaks one fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        ended = process.run(command, log=log, env=env or {}, limits=limits, on_line=lambda _: None)
        out = log.read_text(encoding="utf-8", errors="replace")
    assert ended.broke is None, f"{ended.broke}:\n{out}"
    return Ended(ended.code, out, ended.seconds, ended.peak_rss)


def said(ended: Ended, *words: str) -> None:
    """That one line says all of this, that none is a traceback, and that all of them are clean."""
    assert "Traceback" not in ended.out, ended.out
    assert any(all(word in line for word in words) for line in ended.out.splitlines()), (
        f"no line says {words}:\n{ended.out}"
    )
    clean(ended.out)


def clean(text: str) -> None:
    """That nothing in a text acts on a terminal, hides or turns around what is shown, or begins a line unseen."""
    unclean = {f"U+{ord(sign):04X}" for sign in text if sign != "\n" and unicodedata.category(sign) in UNCLEAN}
    assert not unclean, f"{unclean} in {text!r}"


class Stages:
    """Programs of stages, each in a fork of one process that has loaded what they import; whoever makes it ends it."""

    def __init__(self, scratch: Path, *loads: str) -> None:
        """`loads`: modules to have loaded, so that no fork takes the time for them."""
        self._scratch = scratch
        errors = scratch / "errors.txt"
        self._child = json_child.JsonChild([sys.executable, "-m", "tests.hostile.forks", *loads], errors=errors)

    def run(self, stage: str, verb: str, **options: object) -> Ended:
        """Run `python -m scripts.<stage> <verb> --option value …`; a list is an option several times over."""
        words = [word for name, value in options.items() for one in (value if isinstance(value, list) else [value])
                 for word in (f"--{name.replace('_', '-')}", str(one))]  # fmt: skip
        return self.program(f"scripts.{stage}", verb, *words)

    def program(self, module: str, *words: str) -> Ended:
        """Run any module as a program."""
        log = self._scratch / "said.txt"
        request = {"module": module, "words": words, "log": str(log), "seconds": SECONDS, "memory": MEMORY,
                   "pace": PACE}  # fmt: skip
        reply = self._child.ask(request, SECONDS + 30)
        out = log.read_text(encoding="utf-8", errors="replace")
        assert reply["broke"] is None, f"{reply['broke']}:\n{out}"
        return Ended(reply["code"], out, reply["took"], reply["peak"])

    def refused(self, stage: str, verb: str, *words: str, **options: object) -> Ended:
        """Run it and see that it ends with our own error, in one line that says all of `words`."""
        ended = self.run(stage, verb, **options)
        assert ended.code == 1, ended
        said(ended, "error: ", *words)
        return ended

    def end(self) -> None:
        """End the process."""
        self._child.end()


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes when the tests end; not below a test's, since paths of sockets are short."""
    return tempfile.TemporaryDirectory(prefix="hostile-")


class Hostile(Project):
    """A project whose doit runs under the limits, with a sound model `good` beside those that a test adds."""

    def __init__(self, folder: Path, good: Path) -> None:
        super().__init__(folder)
        self.good: dict[str, Any] = {"name": "good", "source": {"path": good}, "precisions": ["fp16"]}

    def beside(self, *rows: dict[str, Any], extra: str = "") -> None:
        """Write models.toml: the sound model, and these."""
        self.models(self.good, *rows, extra=extra)

    def environment(self) -> dict[str, str]:
        """With temporary files of its own, and so the lock by which builds wait for each other's measurements: what
        other tests build meanwhile is not to count against the limit of time.
        """
        return {**super().environment(), **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), _temporary().name)}

    def run(self, *words: str, seconds: float = SECONDS) -> Ended:
        """Run doit under the limits, for its whole tree."""
        with contextlib.chdir(ROOT):
            return run(self.command(*words), env=self.environment(), limits=process.Limits(seconds, MEMORY))

    def refused(self, *words: str, task: str = "checkpoint", code: int = 1) -> Ended:
        """doit ends with our own error in a line that says all of `words`; of the sound model nothing is lost."""
        before = self.built()
        ended = self.run(task)
        assert ended.code == code, ended.out
        said(ended, *words)
        if code == 1:
            assert (self.build / "good" / "checkpoint" / "manifest.json").is_file(), ended.out
        assert before.items() <= self.built().items(), "something that was built is gone, or made anew"
        return ended

    def built(self) -> dict[str, int]:
        """What there is of the sound model: file and inode."""
        folder = self.build / "good"
        files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
        return {str(file.relative_to(folder)): file.lstat().st_ino for file in files}


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    """Have `how` change what is in a JSON file."""
    value = json.loads(path.read_text(encoding="utf-8"))
    how(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def copy(weights: Path, folder: Path) -> Path:
    """A copy of a checkpoint, to be spoilt."""
    return shutil.copytree(weights, folder)

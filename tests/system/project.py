"""A user's configuration and build folder, and doit run on them as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import tiny

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """How one `doit` ended, and which steps started a child."""

    code: int
    out: str
    steps: frozenset[str]


class Project:
    """`config=` and `build=` folders, with spaces in their paths, and a home of their own."""

    def __init__(self, folder: Path) -> None:
        self.config, self.build, self.home = folder / "my config", folder / "my build", folder / "home"
        for path in (self.config / "eval", self.home):
            path.mkdir(parents=True)

    def command(self, *words: str) -> list[str]:
        """doit with this configuration and build folder; more words may follow."""
        return [sys.executable, "-m", "doit", f"config={self.config}", f"build={self.build}", *words]

    def environment(self) -> dict[str, str]:
        """A home of its own."""
        return {**os.environ, "HOME": str(self.home), "COLUMNS": "200"}

    def doit(self, *words: str) -> Ran:
        """Run doit in the project's folder, as the README says, with this configuration and build folder."""
        started = time.time()
        done = subprocess.run(
            self.command(*words), cwd=ROOT, env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False, timeout=500,
        )  # fmt: skip
        logs = (self.build / "logs").glob("*.log")
        steps = {log.stem.replace(".", ":", 1) for log in logs if log.stat().st_mtime >= started}
        return Ran(done.returncode, done.stdout, frozenset(steps))

    def json(self, name: str) -> Any:
        """A JSON file of the build."""
        return json.loads((self.build / name).read_text(encoding="utf-8"))

    def model(self, **values: Any) -> None:
        """Write models.toml with one model; values are TOML-like JSON."""
        self.models(values)

    def models(self, *rows: dict[str, Any], extra: str = "") -> None:
        """Write models.toml."""
        text = extra + "".join("[[model]]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in row.items()) for row in rows)
        (self.config / "models.toml").write_text(text, encoding="utf-8")

    def facts(self) -> dict[str, str]:
        """Evaluation files for `tiny.make_trained`: the facts it was taught. Returns what `evaluation` says."""
        turns = [[{"role": "user", "content": question}] for question, _ in tiny.FACTS]
        cases = [
            {"id": f"fact-{n}", "messages": turn, "max_tokens": 24, "expect": {"exact": answer}}
            for n, (turn, (_, answer)) in enumerate(zip(turns, tiny.FACTS, strict=True))
        ]
        (self.config / "eval" / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), "utf-8")
        text = "".join(
            f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
            for question, answer in tiny.FACTS
        )
        (self.config / "eval" / "general.txt").write_text(text, encoding="utf-8")
        return {"cases": "eval/cases.jsonl"}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)

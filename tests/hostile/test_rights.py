"""Files and folders that a user may not read: file, what, and a remedy; also where root runs the test."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.common import os_errors
from tests import tiny
from tests.hostile import limited
from tests.hostile.limited import Hostile

#: Gives up root's right to read everything (Linux: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH), then runs its words.
_AS_ANYBODY = """
import ctypes, os, sys
prctl = ctypes.CDLL(None).prctl
if os.geteuid() == 0 and any(prctl(24, right, 0, 0, 0) for right in (1, 2)):
    sys.exit("root's rights can't be given up")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Anybody(Hostile):
    """A project whose doit may read what anybody may."""

    def command(self, *words: str) -> list[str]:
        python, *rest = super().command(*words)
        return [python, "-c", _AS_ANYBODY, *rest]


def may_read_all(path: Path) -> bool:
    """Whether even a process that gave up root's rights reads `path`, which nobody may."""
    words = [sys.executable, "-c", _AS_ANYBODY, "-c", "import sys; open(sys.argv[1])", str(path)]
    return b"Permission denied" not in subprocess.run(words, capture_output=True, check=False).stderr


def test_what_may_not_be_read(tiny_llama: Path, tmp_path: Path) -> None:
    project = Anybody(tmp_path / "anybody", tiny_llama)
    places = {name: limited.copy(tiny_llama, tmp_path / name) for name in ("weights", "folder", "config", "licence")}
    adapter = tiny.make_adapter(tmp_path / "adapter", tiny_llama)
    locked = {
        "weights": places["weights"] / "model.safetensors", "folder": places["folder"],
        "config": places["config"] / "config.json", "licence": places["licence"] / "LICENSE",
        "adapter": adapter / "adapter_model.safetensors", "cases": project.config / "eval" / "cases.jsonl",
        "template": project.config / "chat.jinja",
    }  # fmt: skip
    more: dict[str, Any] = {
        "adapter": {"adapters": [{"path": adapter}]}, "cases": {"evaluation": {"cases": "eval/cases.jsonl"}},
        "template": {"template": "chat.jinja"},
    }  # fmt: skip
    project.beside(*({"name": name, "source": {"path": places.get(name, tiny_llama)}, **more.get(name, {})}
                     for name in locked))  # fmt: skip
    for path in locked.values():
        if not path.exists():
            path.write_text("mine", encoding="utf-8")
        path.chmod(0)
    if may_read_all(locked["weights"]):
        pytest.skip("a system on which root can't do without its rights")
    try:
        ended, doctor = project.run("checkpoint"), project.run("doctor")
    finally:
        locked["folder"].chmod(0o700)
    assert ended.code == 1, ended.out
    for name, path in locked.items():
        limited.said(ended, f"checkpoint:{name}", path.name, "Permission denied", " rights")
    assert doctor.code == 1, doctor.out
    for name, path in locked.items():
        pattern = rf"^bad +model {name} +.*{path.name}\S* .*Permission denied\n.* rights"
        assert name == "licence" or re.search(pattern, doctor.out, re.MULTILINE), doctor.out
    assert (project.build / "good" / "checkpoint" / "manifest.json").is_file()


@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_whatever_a_system_says_of_a_file_has_a_remedy(code: int) -> None:
    said = str(os_errors.ours(OSError(code, os.strerror(code), "a\nfile")))
    head, _, remedy = said.partition(". ")
    assert head == f"a file: {os.strerror(code)}" and len(remedy) > 10

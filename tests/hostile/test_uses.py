"""Strange uses: no home, no reader, a file that becomes shorter while it is read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from scripts.checkpoint import headers, tensors
from scripts.common.errors import IngotError
from scripts.foundry import cache
from tests import tiny
from tests.hostile.limited import Hostile, said
from tests.system.project import ROOT


class Homeless(Hostile):
    """A project whose doit is started as a service may be, without a home."""

    def environment(self) -> dict[str, str]:
        lost = ("HOME", "USERPROFILE", "USER", "LOGNAME", "XDG_CACHE_HOME", "HF_HOME")
        return {name: value for name, value in super().environment().items() if name not in lost}


@pytest.mark.parametrize("extra", ["", '[foundry]\ncache = "app:mine"\n'], ids=["own cache", "an app's cache"])
def test_without_a_home(tmp_path: Path, tiny_llama: Path, extra: str) -> None:
    project = Homeless(tmp_path / "project", tiny_llama)
    project.beside(extra=extra)
    for words in (["list"], ["checkpoint"], ["why"], ["doctor"], ["models"]):
        ended = subprocess.run(
            project.command(*words), cwd=ROOT, env=project.environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0 or words == ["doctor"], (words, ended)
        assert "Traceback" not in ended.stdout + ended.stderr, (words, ended)


@pytest.mark.parametrize("setting", ["app:mine", "~/models", "~nobody-of-this-name/models", "auto"])
def test_a_cache_of_whom_has_no_home(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """A mock: neither HOME nor the system's list of users knows of one, as in a container with a user by number."""

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(IngotError, match=r"foundry\.cache = |there is no such home folder") as error:
        cache.resolve(setting)
    assert error.value.remedy


@pytest.mark.parametrize("words", [["config=~nobody-of-this-name/x", "list"], ["init", "~nobody-of-this-name/x"]])
def test_a_home_of_nobody(hostile: Hostile, words: list[str]) -> None:
    ended = hostile.run(*words)
    assert ended.code in (1, 3), ended.out
    said(ended, "~nobody-of-this-name/x: there is no such home folder. Set HOME, or write")


def test_an_adapter_whose_base_is_below_a_home_of_nobody(hostile: Hostile, tiny_llama: Path, tmp_path: Path) -> None:
    adapter = tiny.make_adapter(tmp_path / "adapter", tiny_llama)
    path = adapter / "adapter_config.json"
    value = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": "~nobody-of-this-name/x"}
    path.write_text(json.dumps(value), encoding="utf-8")
    ended = hostile.run("init", str(adapter))
    assert ended.code == 1, ended.out
    said(ended, "~nobody-of-this-name/x")


@pytest.mark.parametrize("words", [["list", "--all"], ["why"], ["doctor"], ["checkpoint"]])
def test_into_head(hostile: Hostile, words: list[str]) -> None:
    """`doit … | head -n 1`: whoever reads goes after a line, and nothing is said of it."""
    doit = subprocess.Popen(
        hostile.command(*words), cwd=ROOT, env=hostile.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert doit.stdout and doit.stderr
    assert doit.stdout.readline()
    doit.stdout.close()
    assert b"rror" not in doit.stderr.read()
    assert doit.wait() in (0, 1, -13)


def test_weights_that_become_shorter_while_they_are_read(weights: Path) -> None:
    path = weights / "model.safetensors"
    known = headers.read_safetensors(path)
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(IngotError, match=r"model.safetensors: became shorter while it was read. Let nothing write"):
        tensors.judge_numbers(dict.fromkeys(known, path), known)


def test_a_number_that_is_none_in_weights(hostile: Hostile, weights: Path) -> None:
    """Infinity in the last place of a file; not the export tells it, but the first step."""
    path = weights / "model.safetensors"
    kind = {4: b"\x00\x00\x80\x7f", 2: b"\x80\x7f"}
    width = headers.SIZES[max(headers.read_safetensors(path).values(), key=lambda tensor: tensor.end).dtype]
    with path.open("rb+") as file:
        file.seek(-width, 2)
        file.write(kind[width])
    hostile.beside({"name": "bad", "source": {"path": weights}})
    said(hostile.refused("checkpoint:bad"), "holds a number that is not finite", "take an earlier checkpoint")

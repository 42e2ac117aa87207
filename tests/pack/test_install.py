"""The installer of a pack, on a machine without Ingot: checked, atomic, and nothing of others touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pack.conftest import packaged
from tests.system.project import Project
from tests.tiny import FACTS

NAME = "tiny-fp32-generic-cpu"


@pytest.fixture
def unpacked(project: Project, tmp_path: Path) -> Path:
    """The archive, unpacked by tar on another machine, so to say."""
    assert project.doit("pack", "tiny-fp32", f"out={tmp_path / 'a.tar'}").code == 0
    there = tmp_path / "another machine"
    there.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "a.tar"], cwd=there, check=True)
    return there / NAME


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with a space in its name and somebody's things in it: broken, linked, named like ours."""
    cache = tmp_path / "a cache"
    (cache / "theirs").mkdir(parents=True)
    (cache / "theirs" / "inference_model.json").write_text('{"Name": 7}', encoding="utf-8")
    (cache / "dangling").symlink_to(cache / "nowhere")
    (cache / "foundry.local.modelinfo.json").write_text("{not json", encoding="utf-8")
    return cache


def install(folder: Path, *words: str | Path, shell: str = "sh", **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), **env}
    return subprocess.run(
        [shell, "install.sh", *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip


def tree(folder: Path, *, but: str = "installed") -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if not name.startswith(but):
            found[name] = (
                str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
            )
    return found


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_it_takes_the_next_number_and_leaves_the_rest_alone(
    unpacked: Path, cache: Path, project: Project, shell: str
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (cache / "theirs" / "genai_config.json").write_text(json.dumps({"x": f"{NAME}:99"}), encoding="utf-8")
    (cache / "named like ours").mkdir()
    marker = {"Name": f"{NAME.upper()}:4"}
    (cache / "named like ours" / "inference_model.json").write_text(json.dumps(marker), encoding="utf-8")
    before = tree(cache)
    words = ["sh", "install.sh"] if shell == "busybox" else ["install.sh"]
    done = subprocess.run(
        [shell, *words, cache], cwd=unpacked, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    target = cache / "installed" / f"{NAME}-5"
    assert done.stdout.startswith(f"{NAME}:5 is in {target}\n")
    assert json.loads((target / "inference_model.json").read_text())["Name"] == f"{NAME}:5"
    assert f'"{NAME}:5"' in (target / "README.md").read_text() and f"{NAME}:1" not in (target / "README.md").read_text()
    assert (target / "model.onnx.data").read_bytes() == (packaged(project) / "model.onnx.data").read_bytes()
    assert not (target / "download.tmp").exists() and not (target / "install.sh").exists()
    assert tree(cache) == before
    again = install(unpacked, cache)
    assert (again.returncode, again.stdout) == (0, f"{NAME}:5 is there already, in {target}\n")
    assert [path.name for path in (cache / "installed").iterdir()] == [f"{NAME}-5"]


@pytest.mark.needs("powershell")
def test_the_installer_for_windows_takes_the_next_number_too(unpacked: Path, cache: Path, project: Project) -> None:
    (cache / "named like ours").mkdir()
    marker = {"Name": f"{NAME.upper()}:4"}
    (cache / "named like ours" / "inference_model.json").write_text(json.dumps(marker), encoding="utf-8")
    before = tree(cache)
    command = ["pwsh", "-NoProfile", "-File", "install.ps1", str(cache)]
    for said in (f"{NAME}:5 is in ", f"{NAME}:5 is there already, in "):
        done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stdout.startswith(said)) == (0, True), done.stderr
    target = cache / "installed" / f"{NAME}-5"
    assert json.loads((target / "inference_model.json").read_text())["Name"] == f"{NAME}:5"
    assert (target / "model.onnx.data").read_bytes() == (packaged(project) / "model.onnx.data").read_bytes()
    assert tree(cache) == before and not (target / "download.tmp").exists()
    (unpacked / "model.onnx").write_bytes(b"?")
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "model.onnx has other content" in done.stderr) == (1, True), done.stderr


def test_the_runtime_lists_and_answers_from_there_by_the_program_of_the_card(unpacked: Path, cache: Path) -> None:
    (cache / "foundry.local.modelinfo.json").unlink()
    assert install(unpacked, cache).returncode == 0
    assert install(unpacked, cache).returncode == 0
    target = cache / "installed" / f"{NAME}-1"
    program = re.search(r"```python\n(.*?)```", (target / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    text = program[1].replace("FOLDER", str(target)).replace("Hello", FACTS[0][0])
    place = f'app_name="example", app_data_dir={str(unpacked.parent)!r}, model_cache_dir={str(cache)!r}'
    text = text.replace('app_name="example"', place) + "\nprint([one.id for one in catalog.get_cached_models()])\n"
    script = unpacked.parent / "ask.py"
    script.write_text(text, encoding="utf-8")
    environment = {**os.environ, "HOME": str(unpacked.parent)}
    done = subprocess.run(  # -P: nothing of the folder that it stands in, and so nothing of Ingot
        [sys.executable, "-P", script], cwd=unpacked.parent, env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [FACTS[0][1], f"['{NAME}:1']"]


def test_a_file_that_was_damaged_on_the_way_is_named_and_the_cache_is_as_it_was(
    unpacked: Path, cache: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(unpacked / "model.onnx.data")
    before = tree(cache, but="-")
    done = install(unpacked, cache)
    assert (done.returncode, "model.onnx.data" in done.stderr) == (1, True), done.stderr
    assert tree(cache, but="-") == before


def test_one_that_was_damaged_in_the_cache_is_told_and_not_taken_for_there(
    unpacked: Path, cache: Path, spoil: Callable[[Path], None]
) -> None:
    assert install(unpacked, cache).returncode == 0
    spoil(cache / "installed" / f"{NAME}-1" / "model.onnx.data")
    done = install(unpacked, cache)
    assert (done.returncode, "not whole" in done.stderr) == (1, True), done.stderr


def test_without_a_cache_it_says_how_to_name_one(unpacked: Path) -> None:
    done = install(unpacked)
    assert (done.returncode, "Name its folder" in done.stderr) == (1, True)
    (unpacked.parent / ".foundry" / "cache" / "models").mkdir(parents=True)
    assert install(unpacked).returncode == 0
    assert (unpacked.parent / ".foundry" / "cache" / "models" / "installed" / f"{NAME}-1").is_dir()


def test_a_link_in_the_place_of_its_folder_is_refused(unpacked: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (cache / "installed").symlink_to(tmp_path / "elsewhere")
    done = install(unpacked, cache)
    assert (done.returncode, "is a link" in done.stderr) == (1, True)
    assert not any((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_while_it_copies_it_leaves_nothing_that_is_listed_and_the_next_tidies_up(
    unpacked: Path, cache: Path, tmp_path: Path, number: int
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cp").write_text(
        '#!/bin/sh\ncase "$*" in *onnx.data*) sleep 60 ;; esac\nexec /bin/cp "$@"\n', encoding="utf-8"
    )
    (tools / "cp").chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = ["sh", "install.sh", str(cache)]
    with subprocess.Popen(command, cwd=unpacked, env=environment, start_new_session=True) as child:
        target = cache / "installed" / f"{NAME}-1"
        end = time.monotonic() + 60
        while not (target / "model.onnx").exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(child.pid, number)
        assert child.wait(60) != 0
    if number == signal.SIGKILL:
        assert (target / "download.tmp").exists()
    else:
        assert not target.exists()
    done = install(unpacked, cache)
    assert done.stdout.startswith(f"{NAME}:1 is in {target}"), done.stderr

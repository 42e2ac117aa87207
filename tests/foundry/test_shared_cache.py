"""A cache that is somebody's home: on another disk, read-only, in use, shared by two deployments, or by Windows."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scripts.common import folders, moving
from scripts.common.errors import IngotError
from scripts.common.model_id import is_folder_name
from scripts.foundry import cache as caches
from scripts.foundry import marks
from scripts.foundry.deploy import deploy, undeploy
from scripts.foundry.writing import writing
from scripts.runtime.foundry import Runtime
from tests.foundry.test_deploy import inside, listed, snapshot
from tests.needs import in_a_namespace
from tests.served import MODEL_ID

ROOT = Path(__file__).parents[2]


def command(package: Path, cache: Path, output: Path) -> list[str]:
    words = [sys.executable, "-m", "scripts.foundry", "deploy", "--package", package, "--model-id", MODEL_ID]
    return [str(word) for word in (*words, "--cache", cache, "--output", output)]


@pytest.mark.needs("namespaces")
def test_another_file_system_gets_copies_and_says_so(package: Path, tmp_path: Path) -> None:
    cache, output = tmp_path / "models", tmp_path / "deploy.json"
    cache.mkdir()
    script = 'mount -t tmpfs none "$1"; out=$2; shift 2; "$@"; cp -r "$CACHE" "$out"'
    copied = tmp_path / "copied"
    done = in_a_namespace(f"CACHE=$1; {script}", cache, copied, *command(package, cache, output), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["reasons"] == ["model.onnx.data was copied: the cache is on another file system"]
    assert caches.differences(caches.home_of(copied, MODEL_ID), caches.manifest_of(package)) == []


@pytest.mark.needs("namespaces")
def test_another_file_system_that_is_too_small_is_told_before_anything_is_copied(package: Path, tmp_path: Path) -> None:
    cache, output = tmp_path / "models", tmp_path / "deploy.json"
    cache.mkdir()
    script = 'mount -t tmpfs -o size=1m none "$1"; cache=$1; shift; "$@" || { ls -A "$cache/ingot"; exit 1; }'
    done = in_a_namespace(script, cache, *command(package, cache, output), cwd=ROOT)
    assert done.returncode == 1
    assert "Free some space, or set foundry.cache to a folder on another disk" in done.stderr
    assert done.stdout.split() == [".lock"]


@pytest.mark.needs("namespaces")
def test_a_read_only_cache_is_explained_and_a_model_in_it_still_found_right(package: Path, tmp_path: Path) -> None:
    cache, output = tmp_path / "models", tmp_path / "deploy.json"
    deploy(package, MODEL_ID, cache)
    before = snapshot(cache)
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; "$@"'
    done = in_a_namespace(script, cache, *command(package, cache, output), cwd=ROOT)
    assert done.returncode == 1
    assert "the Foundry cache cannot be written: Read-only file system. Make it writable" in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(cache) == before


def test_deployments_at_once_leave_whole_versions(package: Path, newer: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models"
    started = [
        subprocess.Popen(command(one, cache, tmp_path / f"{number}.json"), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for number, one in enumerate((package, newer, package))
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    found = marks.versions(cache, MODEL_ID.rpartition(":")[0])
    assert len(found) in (2, 3)  # the same content twice in a row is one version
    for own in found:
        assert caches.differences(own.folder, caches.manifest_of(own.folder)) == []
    assert inside(cache / "ingot") == [".lock", *sorted(own.folder.name for own in found)]
    assert listed(cache) == sorted(own.id for own in found)


def test_a_deployment_that_waits_says_so(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import filelock

    cache = tmp_path / "models"
    (cache / "ingot").mkdir(parents=True)
    held = threading.Event()

    def other() -> None:
        with filelock.FileLock(cache / "ingot" / ".lock"):
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(10)
    deploy(package, MODEL_ID, cache)
    thread.join()
    assert "waiting for another deployment" in capsys.readouterr().out


def test_a_model_that_is_in_the_cache_but_not_listed_is_listed_again(package: Path, tmp_path: Path) -> None:
    """As after an upgrade of Foundry Local that starts with an empty index."""
    cache = tmp_path / "models"
    deploy(package, MODEL_ID, cache)
    (cache / caches.INDEX).unlink()
    assert listed(cache) == []
    assert deploy(package, MODEL_ID, cache).action == "registered again"
    assert listed(cache) == [MODEL_ID]


def test_a_registration_of_ours_that_points_elsewhere_comes_home(package: Path, tmp_path: Path) -> None:
    cache, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    folder = Path(str(deploy(package, MODEL_ID, cache).path))
    shutil.copytree(folder, elsewhere)
    with Runtime(cache) as runtime:
        runtime.unregister(MODEL_ID)
        runtime.register(elsewhere, MODEL_ID)
    assert deploy(package, MODEL_ID, cache).action == "registered again"
    assert caches.registrations(cache) == {MODEL_ID: folder}
    assert elsewhere.is_dir()


def test_a_stale_inference_model_is_replaced(package: Path, tmp_path: Path) -> None:
    """An older package's, with another template: older runtimes answered garbage then."""
    cache = tmp_path / "models"
    folder = Path(str(deploy(package, MODEL_ID, cache).path))
    (folder / caches.MARKER).write_text(json.dumps({"Name": MODEL_ID, "PromptTemplate": {"prompt": "{Content}"}}))
    assert deploy(package, MODEL_ID, cache).action == "replaced"
    assert (folder / caches.MARKER).read_bytes() == (package / caches.MARKER).read_bytes()


def test_undeploying_leaves_what_others_put_beside_ours(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models"
    deploy(package, MODEL_ID, cache)
    (cache / "ingot" / ".theirs.old").mkdir()
    (cache / "ingot" / ".theirs.old" / "precious").write_text("mine")
    (cache / "custom").mkdir()
    assert undeploy(MODEL_ID, cache) == "removed"
    assert inside(cache / "ingot") == [".lock", ".theirs.old"]
    assert (cache / "custom").is_dir()


def test_a_folder_that_cannot_be_moved_keeps_its_model(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: no exchange, and no moving of a folder in which a file is open."""
    cache = tmp_path / "models"
    folder = Path(str(deploy(package, MODEL_ID, cache).path))
    (folder / "stray.txt").write_text("?")  # so that it has to be mended
    before = snapshot(cache)
    move = moving.move

    def held(path: Path, target: Path) -> None:
        if path == folder:
            raise OSError(errno.EBUSY, "in use", str(path))
        move(path, target)

    monkeypatch.setattr(folders, "exchange", lambda *_: False)
    monkeypatch.setattr(moving, "move", held)
    with pytest.raises(IngotError, match="Close what uses the model"):
        deploy(package, MODEL_ID, cache)
    monkeypatch.setattr(moving, "move", move)
    assert {name: data for name, data in snapshot(cache).items() if ".new/" not in name} == before
    assert deploy(package, MODEL_ID, cache).action == "replaced"  # without an exchange it goes through too
    assert inside(cache / "ingot") == [".lock", folder.name]
    assert listed(cache) == [MODEL_ID]


def test_a_folder_that_cannot_come_in_lets_the_old_one_back(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "models"
    folder = Path(str(deploy(package, MODEL_ID, cache).path))
    (folder / "stray.txt").write_text("?")
    move = moving.move

    def held(path: Path, target: Path) -> None:
        if path.name.endswith(".new"):
            raise OSError(errno.EBUSY, "in use", str(path))
        move(path, target)

    monkeypatch.setattr(folders, "exchange", lambda *_: False)
    monkeypatch.setattr(moving, "move", held)
    with pytest.raises(IngotError):
        deploy(package, MODEL_ID, cache)
    assert caches.differences(folder, caches.manifest_of(package)) == ["stray.txt does not belong there"]
    assert listed(cache) == [MODEL_ID]


@pytest.mark.parametrize("code", [5, 32])
def test_windows_words_for_a_file_in_use_are_explained(code: int) -> None:
    error = PermissionError(errno.EACCES, "Access is denied", "model.onnx")
    error.winerror = code  # type: ignore[attr-defined,unused-ignore]
    with pytest.raises(IngotError, match=r"Close what uses the model"), writing(Path("cache")):
        raise error


@pytest.mark.parametrize(
    ("model_id", "portable"),
    [
        ("m-generic-cpu:1", True),
        ("console-generic-cpu:1", True),
        ("con-generic-cpu:1", True),
        ("con:1", False),
        ("Aux:1", False),
        ("nul.x-generic-cpu:1", False),
        ("lpt1.a:1", False),
        ("com0:1", True),
        ("m.:1", False),
        ("m.n:1", True),
    ],
)
def test_a_name_that_windows_has_no_folders_of_is_refused(model_id: str, portable: bool, tmp_path: Path) -> None:
    assert is_folder_name(model_id.rpartition(":")[0]) == portable
    if not portable:
        with pytest.raises(IngotError, match="Windows has no folders of"):
            deploy(tmp_path, model_id, tmp_path / "models")
        assert not (tmp_path / "models").exists()

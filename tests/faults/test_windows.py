"""The engine under the rules of Windows, as far as they can be played here: what it asks of a disk is allowed there.

A file that is open, or read-only, can't be removed, replaced or moved, nor a folder above an open file; a rename takes
no name that is taken; ctime tells nothing of edits; two names can't be exchanged. Windows itself was never tried.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.common import folders, moving
from scripts.engine import digests
from tests.engine.projects import CHEAP, Project, ran
from tests.faults import forked

BIG = (*CHEAP, {"name": "blow", "verb": "blow", "inputs": ["src/a"], "parameters": {"size": 3 << 20}},
       {"name": "again", "verb": "relink", "inputs": ["blow"]})  # fmt: skip


def _open_here() -> set[str]:
    """The files that this process has open, by their names."""
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.add(str(handle.readlink()))
    return found


def _refuse_open(path: Any) -> None:
    whole = str(Path(path).parent.resolve() / Path(path).name)
    if any(name == whole or name.startswith(f"{whole}/") for name in _open_here()):
        raise PermissionError(errno.EACCES, "is used by another process", str(path))


def _refuse_read_only(path: Any) -> None:
    file = Path(path)
    if file.is_file() and not file.is_symlink() and not file.stat().st_mode & 0o200:
        raise PermissionError(errno.EACCES, "is read-only", str(path))


def rules() -> None:
    """In a fork: from now on this process lives by them."""
    moving.WINDOWS, digests.CTIME_TELLS = True, False
    folders.exchange = lambda *_: False
    real_open, real_rename = builtins.open, os.rename

    def guarded(function: Callable[..., Any], *, moves: bool) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            if named.get("dir_fd") is None:
                _refuse_open(path)
                if not moves:
                    _refuse_read_only(path)
                elif os.path.lexists(rest[0]):
                    _refuse_open(rest[0])
                    _refuse_read_only(rest[0])
                    if Path(rest[0]).is_dir() or function is real_rename:
                        raise PermissionError(errno.EACCES, "is there already", str(rest[0]))
            return function(path, *rest, **named)

        return call

    def opened(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if isinstance(path, str | os.PathLike) and set(mode) & set("wa+"):
            _refuse_read_only(path)
        return real_open(path, mode, *rest, **named)

    os.unlink = os.remove = guarded(os.unlink, moves=False)
    os.rename, os.replace = guarded(os.rename, moves=True), guarded(os.replace, moves=True)
    builtins.open = opened  # type: ignore[assignment]
    for name in ("O_PATH", "O_NOFOLLOW"):
        delattr(os, name)


def run(project: Project, *words: str, code: int = 0) -> str:
    found = forked.end(forked.start(project, *words, before=rules))
    said = (project.folder / "said.txt").read_text()
    assert found == code and "Traceback" not in said, said
    return said


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", BIG)
    assert ran(run(made)) == {str(row["name"]) for row in BIG}
    return made


def test_a_build_goes_through_and_the_next_has_nothing_to_do(project: Project) -> None:
    assert ran(run(project)) == set()
    assert project.litter() == []
    assert run(project, "check", "--deep").startswith("8 whole")


def test_outputs_are_replaced_restored_and_made_again(project: Project) -> None:
    right = project.contents()
    project.write("src/a/x.txt", "another text")
    assert "blow" in ran(run(project))
    project.write("src/a/x.txt", "alpha and omega")
    assert "blow                         restored" in run(project)
    assert project.contents() == right
    run(project, "forget", "blow")
    assert "blow                         built" in run(project)
    assert project.contents() == right and project.litter() == []


@pytest.mark.parametrize("name", ["build/join/all.txt", "src/b/y.txt"])
def test_an_edit_that_no_stamp_shows_is_seen(project: Project, name: str) -> None:
    file = project.folder / name
    before = file.stat()
    with file.open("r+") as opened:
        opened.write("o")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ran(run(project))


def test_the_store_is_collected_and_a_build_cleaned(project: Project) -> None:
    project.write("src/a/x.txt", "another text")
    run(project)
    before = len(list((project.build / "store").iterdir()))
    assert "removed" in run(project, "gc", "--keep", "0")
    assert len(list((project.build / "store").iterdir())) < before
    run(project, "clean")
    assert project.contents() == {} and not (project.build / "store").exists()


def test_a_scanner_that_holds_a_new_file_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    source, target = tmp_path / "new", tmp_path / "final"
    source.write_text("text")
    tries = []

    def held(one: Path, other: Path) -> None:
        tries.append(one)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "is used by another process", str(one))
        shutil.move(one, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", held)
        with pytest.raises(PermissionError):
            moving.move(source, target)
        patch.setattr(moving, "WINDOWS", True)
        moving.move(source, target)
    assert target.read_text() == "text" and len(tries) == 3


def test_a_death_between_the_two_moves_is_made_good(project: Project) -> None:
    """Where names can't be exchanged, a step's old output is away for a moment: the next build puts it back."""
    right = project.contents()

    def die_between() -> None:
        rules()
        real = moving.move

        def move(source: Path, target: Path) -> None:
            if target.name == "join":
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)

        moving.move = move

    project.set("join", parameters={})
    (project.build / "join/all.txt").write_text("harmed")
    assert forked.end(forked.start(project, before=die_between)) == -signal.SIGKILL
    assert not (project.build / "join").exists()
    assert "swept" in run(project)
    assert project.contents() == right and project.litter() == []

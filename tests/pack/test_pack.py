"""`doit pack`: what is in the archive, what it says, and what it refuses to do."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.attest import signing
from scripts.attest.papers import HANDED_ON, SIGNATURE
from scripts.common import json_files
from scripts.common.childenv import SIGNING_KEY
from scripts.common.manifest import MANIFEST
from scripts.foundry import cache as caches
from tests.attest.keys import keys
from tests.pack.conftest import packaged
from tests.report import results
from tests.system.project import ROOT, Project

NAME = "tiny-fp32-generic-cpu"


def files(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive, "r:") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def test_the_archive_holds_the_package_and_its_digests_and_is_the_same_each_time(
    project: Project, tmp_path: Path
) -> None:
    first, again = tmp_path / "with a space.tar", tmp_path / "again.tar"
    ran = project.doit("pack", "tiny-fp32", f"out={first}")
    assert ran.code == 0, ran.out
    assert f"sha256:{hashlib.sha256(first.read_bytes()).hexdigest()}" in ran.out
    found = files(first)
    sums = dict(line.split("  ", 1)[::-1] for line in found.pop(f"{NAME}/SHA256SUMS").decode().splitlines())
    assert {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} == {
        f"{NAME}/{name}": digest for name, digest in sums.items()
    }
    for path in packaged(project).iterdir():
        if path.name not in ("README.md", MANIFEST):
            assert found[f"{NAME}/{path.name}"] == path.read_bytes()
    with tarfile.open(first) as tar:
        kinds = {(member.mtime, member.uid, member.gid, member.uname, member.mode & 0o644) for member in tar}
    assert kinds == {(315532800, 0, 0, "", 0o644)}
    for path in packaged(project).iterdir():
        os.utime(path)
    ran = project.doit("pack", "tiny", f"out={again}")  # the recommended precision is the same
    assert ran.code == 0
    assert "tiny: this is of an earlier build; doit attest:tiny-fp32 makes it anew" in ran.out  # no step has made it
    assert again.read_bytes() == first.read_bytes()


def test_the_card_says_that_it_was_verified_and_the_report_stands_beside_it(project: Project, tmp_path: Path) -> None:
    assert project.doit("pack", "tiny-fp32", f"out={tmp_path / 'a.tar'}").code == 0
    found = files(tmp_path / "a.tar")
    card, report = (found[f"{NAME}/{name}"].decode() for name in ("README.md", "report.md"))
    assert "It was verified: loaded, and answered as expected, by a runtime, 2026-01-02" in card
    assert "sh install.sh" in card and card.index("verified") < card.index("Knows a few facts")
    assert "deployed as tiny-fp32-generic-cpu:1, verified" in report
    for data in found.values():
        assert str(tmp_path).encode() not in data


def test_a_package_that_was_not_verified_says_so(project: Project, tmp_path: Path) -> None:
    (project.build / "tiny" / "fp32" / "verify.json").unlink()
    ran = project.doit("pack", "tiny-fp32", f"out={tmp_path / 'a.tar'}")
    assert (ran.code, "not verified in a runtime" in ran.out) == (0, True), ran.out
    assert b"**Not verified**" in files(tmp_path / "a.tar")[f"{NAME}/README.md"]


def test_what_a_gate_refused_takes_force_and_its_card_tells(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "a.tar"
    judged = results.quality(0.4, "refused", ["KL 0.4 is above the gate of 0.25"])
    json_files.write(project.build / "tiny" / "fp32" / "quality.json", judged)
    ran = project.doit("pack", "tiny-fp32", f"out={out}")
    assert (ran.code, out.exists()) == (1, False), ran.out
    assert "KL 0.4 is above the gate" in ran.out and "say --force" in ran.out
    ran = project.doit("pack", "tiny-fp32", f"out={out}", "--force")
    assert ran.code == 0, ran.out
    card = files(out)[f"{NAME}/README.md"].decode()
    assert "**It was held back by its gates (refused: " in card and "KL 0.4 is above the gate of 0.25" in card


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tiny-fp23"], 3, "Did you mean tiny-fp32?"),
        (["tinny"], 3, "Did you mean tiny"),
        ([], 3, "names 0 models"),
        (["tiny-fp32", "format=zip"], 3, "There are: tar, oci"),
        (["tiny-fp32", "out=x.zip"], 3, "An archive is a tar file"),
        (["tiny-half"], 1, "Build it first: doit attest:tiny-half"),
        (["tiny-fp32", "out=/no/such/folder/x.tar"], 1, "no such folder"),
    ],
)
def test_a_mistake_is_one_line(project: Project, words: list[str], code: int, said: str) -> None:
    ran = project.doit("pack", *words)
    assert (ran.code, said in ran.out, len(ran.out.splitlines())) == (code, True, 1), ran.out


def test_what_is_there_stays_unless_force_is_said_and_a_dry_run_writes_nothing(
    project: Project, tmp_path: Path
) -> None:
    out = tmp_path / "there.tar"
    ran = project.doit("pack", "tiny-fp32", f"out={out}", "--dry-run")
    assert (ran.code, out.exists(), "model.onnx.data" in ran.out) == (0, False, True), ran.out
    out.write_text("mine", encoding="utf-8")
    ran = project.doit("pack", "tiny-fp32", f"out={out}")
    assert (ran.code, out.read_text(encoding="utf-8")) == (1, "mine"), ran.out
    assert project.doit("pack", "tiny-fp32", f"out={out}", "--force").code == 0
    assert tarfile.is_tarfile(out)
    home = tmp_path / "home"
    (home / "of mine").mkdir(parents=True)
    ran = project.doit("pack", "tiny-fp32", f"out={home}", "--force", "format=oci")
    assert (ran.code, [*home.iterdir()]) == (1, [home / "of mine"]), ran.out


def test_a_damaged_package_is_named_and_nothing_is_left(
    project: Project, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(packaged(project) / "model.onnx.data")
    ran = project.doit("pack", "tiny-fp32", f"out={tmp_path / 'a.tar'}")
    assert (ran.code, "model.onnx.data: is not as its manifest says" in ran.out) == (1, True), ran.out
    assert [path.name for path in tmp_path.iterdir()] == ["a project"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_leaves_no_half_archive(project: Project, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with (packaged(project) / "large.bin").open("wb") as file:
        file.truncate(3 << 30)  # takes a while to read, and no room
    listed = json_files.read(packaged(project) / MANIFEST)
    listed["files"]["large.bin"] = {"size": 3 << 30, "blake3": "0" * 64}
    json_files.write(packaged(project) / MANIFEST, listed)
    command = project.command("pack", "tiny-fp32", f"out={folder / 'a.tar'}")
    with subprocess.Popen(command, cwd=ROOT, env=project.environment(), start_new_session=True) as child:
        end = time.monotonic() + 60
        while not any(folder.iterdir()) and time.monotonic() < end:
            time.sleep(0.01)
        assert any(folder.iterdir())
        os.killpg(child.pid, number)
        assert child.wait(60) != 0
    left = [path.name for path in folder.iterdir()]
    assert left == [] if number != signal.SIGKILL else all(name.endswith(".part") for name in left)
    (packaged(project) / "large.bin").unlink()
    json_files.write(packaged(project) / MANIFEST, {"files": caches.contents(packaged(project))})
    assert project.doit("pack", "tiny-fp32", f"out={folder / 'a.tar'}").code == 0
    assert [path.name for path in folder.iterdir()] == ["a.tar"]


def sign(project: Project, folder: Path) -> tuple[Path, Path]:
    """The settings ask for signatures, and the package is signed: the folder of the signature, and the public key."""
    private, public = keys(folder / "keys")
    models = project.config / "models.toml"
    asked = f'[foundry]\nrequire_signature = "{public.as_posix()}"\n'
    models.write_text(asked + models.read_text(encoding="utf-8"), encoding="utf-8")
    output = packaged(project).parent / "signature"
    signing.sign(packaged(project), public, output, {SIGNING_KEY: str(private)})
    return output, public


def test_what_is_signed_verifies_where_it_is_unpacked(project: Project, tmp_path: Path) -> None:
    _, public = sign(project, tmp_path)
    assert project.doit("pack", "tiny-fp32", f"out={tmp_path / 'a.tar'}").code == 0
    with tarfile.open(tmp_path / "a.tar") as tar:
        tar.extractall(tmp_path / "there", filter="data")
    folder = tmp_path / "there" / NAME
    assert signing.verify(folder, folder / SIGNATURE, public) == []
    assert "It was verified" in (folder / "INSTALL.md").read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} - {path.name for path in packaged(project).iterdir()} == {
        SIGNATURE, *HANDED_ON
    }  # fmt: skip


def test_the_signature_of_an_earlier_package_is_not_packed(project: Project, tmp_path: Path) -> None:
    folder, _ = sign(project, tmp_path)
    (packaged(project) / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    json_files.write(packaged(project) / MANIFEST, {"files": caches.contents(packaged(project))})
    ran = project.doit("pack", "tiny-fp32", f"out={tmp_path / 'a.tar'}")
    assert ran.code == 1 and "tokenizer_config.json changed" in ran.out and "doit sign:tiny-fp32" in ran.out, ran.out
    assert not (tmp_path / "a.tar").exists()
    (folder / SIGNATURE).unlink()
    ran = project.doit("pack", "tiny-fp32", f"out={tmp_path / 'a.tar'}")
    assert ran.code == 0 and "not signed: doit sign:tiny-fp32 signs it" in ran.out, ran.out
    assert f"{NAME}/{SIGNATURE}" not in files(tmp_path / "a.tar")

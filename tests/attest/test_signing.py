"""Signatures: what was signed verifies, also by the library's own program, and whatever differs is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.attest import signing
from scripts.attest.__main__ import sign
from scripts.attest.papers import SIGNATURE, UNSIGNED, UNSIGNED_WHY
from scripts.common.childenv import SIGNING_KEY, SIGNING_PASSWORD
from scripts.common.errors import IngotError
from scripts.definitions.passes import not_run
from scripts.foundry.marks import NOTES
from scripts.results import base
from scripts.results.base import Outcome, Verdict
from scripts.results.quality import Advice
from tests.attest.keys import keys


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "a package"
    (folder / "below").mkdir(parents=True)
    for name in ("model.onnx", "README.md", "below/part, 'one'.bin", "manifest.json"):
        (folder / name).write_text(f"{name} of tiny:1")
    return folder


def signed(package: Path, pair: tuple[Path, Path], output: Path) -> Path:
    signing.sign(package, pair[1], output, {SIGNING_KEY: str(pair[0])})
    return output / SIGNATURE


def test_what_was_signed_verifies_also_by_the_librarys_own_program(
    package: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    signature = signed(package, pair, tmp_path / "signature")
    assert signing.verify(package, signature, pair[1]) == []
    for name in UNSIGNED:
        (package / name).write_text("written later")
    shutil.copyfile(signature, package / SIGNATURE)
    assert signing.verify(package, package / SIGNATURE, pair[1]) == []
    words = ["verify", "key", str(package), "--signature", str(package / SIGNATURE), "--public_key", str(pair[1])]
    done = subprocess.run(
        [sys.executable, "-m", "model_signing", *words], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(UNSIGNED) >= NOTES


def change(folder: Path) -> None:
    (folder / "model.onnx").write_text("other")


def lose(folder: Path) -> None:
    (folder / "below/part, 'one'.bin").unlink()


def add(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")


def hide(folder: Path) -> None:
    (folder / ".gitattributes").write_text("")


def name_as_two_lines(folder: Path) -> None:
    (folder / "evil\n.py").write_text("")


def link(folder: Path) -> None:
    (folder / "link").symlink_to("model.onnx")


def dangle(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("nowhere")


def link_below(folder: Path) -> None:
    (folder / "more").symlink_to(folder / "below")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "below" / "pipe")


def hide_below_an_unsigned_name(folder: Path) -> None:
    (folder / "verified.json").mkdir()
    (folder / "verified.json" / "code.py").write_text("")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(change, "model.onnx changed"), (lose, "below/part, 'one'.bin is missing"),
     (add, "extra.json was added"), (hide, ".gitattributes was added"), (name_as_two_lines, "evil .py was added"),
     (link, "link is a link"), (dangle, "model.onnx is a link"), (link_below, "more is a link"),
     (pipe, "below/pipe is not a regular file"),
     (hide_below_an_unsigned_name, "verified.json/code.py was added")],
)  # fmt: skip
def test_a_file_that_differs_is_named(
    package: Path, pair: tuple[Path, Path], tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    signature = signed(package, pair, tmp_path / "signature")
    spoil(package)
    [found] = signing.verify(package, signature, pair[1])
    assert found.startswith(said), found


def test_what_cannot_be_signed_is_named(package: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    link(package)
    with pytest.raises(IngotError, match="link is a link"):
        signed(package, pair, tmp_path / "signature")


def test_a_folder_whose_name_has_a_quote_in_it_is_verified(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "it's-2"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_text(name)
    signature = signed(folder, pair, tmp_path / "signature")
    (folder / "one").unlink()
    (folder / "three").write_text("")
    assert signing.verify(folder, signature, pair[1]) == ["one is missing", "three was added"]


def test_the_signature_of_another_package_names_what_differs(
    package: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    other = shutil.copytree(package, tmp_path / "other")
    change(other)
    assert signing.verify(package, signed(other, pair, tmp_path / "signature"), pair[1]) == ["model.onnx changed"]


def test_a_signature_by_another_key_none_and_a_damaged_one_are_told(
    package: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    signature = signed(package, pair, tmp_path / "signature")
    stranger = keys(tmp_path / "stranger")
    for key, data in ((stranger[1], signature.read_bytes()), (pair[1], b"{}"), (pair[1], b"\xff")):
        signature.write_bytes(data)
        [said] = signing.verify(package, signature, key)
        assert said.startswith("model.sig is not a signature by "), said
    signature.unlink()
    assert signing.verify(package, signature, pair[1]) == ["model.sig is missing: it is not signed"]


def test_a_file_that_holds_another_version_verifies_as_what_it_was(
    package: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    signature = signed(package, pair, tmp_path / "signature")
    (package / "README.md").write_text("README.md of tiny:2")

    def original(name: str) -> bytes | None:
        return (package / name).read_bytes().replace(b"tiny:2", b"tiny:1") if name == "README.md" else None

    found = signing.read(signature, pair[1])
    assert signing.differences(package, found, original) == []
    change(package)
    assert signing.differences(package, found, original) == ["model.onnx changed"]


def test_a_key_that_is_missing_wrong_or_none_is_one_line(
    package: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    stranger = keys(tmp_path / "stranger", password="wrong horse")
    junk = tmp_path / "junk.pem"
    junk.write_text("secret")
    for environment, said in (
        ({}, "is not set"),
        ({SIGNING_KEY: str(tmp_path / "nowhere")}, "No such file"),
        ({SIGNING_KEY: str(junk)}, "is not a private key"),
        ({SIGNING_KEY: str(stranger[0])}, SIGNING_PASSWORD),
        ({SIGNING_KEY: str(stranger[0]), SIGNING_PASSWORD: "wrong horse"}, "is not the private key of"),
    ):
        with pytest.raises(IngotError) as caught:
            signing.sign(package, pair[1], tmp_path / f"signature {len(said)}", environment)
        assert said in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "verdict", "why", "is_signed"),
    [
        ("cpu", "passed", "", True),
        ("cpu", "skipped", "not measured", False),
        ("cuda", "skipped", not_run("cuda"), True),
        ("cuda", "skipped", "not measured", False),
        ("cuda", "refused", "KL", False),
    ],
)
def test_what_may_be_deployed_or_handed_on_is_signed(
    package: Path, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    target: str, verdict: Verdict, why: str, is_signed: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv(SIGNING_KEY, str(pair[0]))
    (package / "inference_model.json").write_text('{"Name": "tiny-int4-cuda-gpu:1"}')
    judged = {"int4": Outcome(verdict=verdict, reasons=[why])}
    base.write(tmp_path / "recommend.json", Advice(recommended=None, reasons=[], precisions=judged))
    sign(package, "tiny-int4-cuda-gpu:1", pair[1], tmp_path / "out", tmp_path / "recommend.json", "int4", "all", target)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {SIGNATURE if is_signed else UNSIGNED_WHY}

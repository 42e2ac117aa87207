"""Deploying what is signed: what does not verify is not deployed, and what was changed since is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.attest import signing
from scripts.attest.papers import SIGNATURE
from scripts.common.childenv import SIGNING_KEY
from scripts.foundry import marks
from tests.attest.keys import keys
from tests.served import MODEL_ID

NAME = MODEL_ID.rpartition(":")[0]


class Signed:
    """A cache, a key, and the stage's own program."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "a cache"
        self.private, self.public = keys(folder / "keys")
        self.asked = json.dumps({"names": {NAME: ["tiny", "fp32"]}, "broken": []})

    def sign(self, package: Path, name: str) -> Path:
        signing.sign(package, self.public, self.folder / name, {SIGNING_KEY: str(self.private)})
        return self.folder / name

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scripts.foundry", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def deploy(self, package: Path, signature: Path) -> subprocess.CompletedProcess[str]:
        return self.run(
            "deploy", "--package", package, "--model-id", MODEL_ID, "--cache", self.cache, "--config", self.folder,
            "--signature", signature, "--public-key", self.public, "--output", self.folder / "deploy.json",
        )  # fmt: skip

    def check(self, code: int) -> str:
        done = self.run("signed", "--cache", self.cache, "--asked", self.asked, "--config", self.folder,
                        "--build", self.folder / "build", "--public-key", self.public)  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


def test_two_versions_verify_and_what_is_changed_in_one_is_named(
    tmp_path: Path, package: Path, newer: Path, spoil: Callable[[Path], None]
) -> None:
    signed = Signed(tmp_path)
    for made, name in ((package, "one"), (newer, "two")):
        done = signed.deploy(made, signed.sign(made, name))
        assert done.returncode == 0, done.stderr
    versions = marks.versions(signed.cache, NAME)
    assert [own.version for own in versions] == [2, 1]
    assert "2 of 2 deployed models are as they were signed" in signed.check(0)
    spoil(versions[0].folder / "tokenizer.json")  # a copy: the weights are the package's own, linked
    (versions[1].folder / "more.json").write_text("{}")
    said = signed.check(1)
    assert f"{NAME}:2 ({versions[0].folder}): tokenizer.json changed" in said
    assert f"{NAME}:1 ({versions[1].folder}): more.json was added" in said
    (versions[1].folder / SIGNATURE).unlink()
    assert "model.sig is missing" in signed.check(1)


def test_what_does_not_verify_is_not_deployed(tmp_path: Path, package: Path, newer: Path) -> None:
    signed = Signed(tmp_path)
    of_another = signed.sign(newer, "two")
    done = signed.deploy(package, of_another)
    assert done.returncode == 1 and "inference_model.json changed" in done.stderr, done.stderr
    copy = shutil.copytree(package, tmp_path / "copy")
    signature = signed.sign(copy, "one")
    (copy / "tokenizer.json").unlink()
    assert "tokenizer.json is missing" in signed.deploy(copy, signature).stderr
    assert "model.sig is missing" in signed.deploy(package, tmp_path).stderr
    assert not (signed.cache / marks.FOLDER).exists()


@pytest.mark.parametrize("word", ["team.pub", "nowhere.pub"])
def test_the_setting_names_a_file(tmp_path: Path, word: str) -> None:
    from scripts.common.errors import IngotError
    from scripts.settings.reading import read

    keys(tmp_path)
    (tmp_path / "models.toml").write_text(
        f'[foundry]\nrequire_signature = "{word}"\n[[model]]\nname = "m"\nsource = {{ path = "." }}\n'
    )
    if word == "team.pub":
        assert read(tmp_path).public_key == tmp_path / word
        return
    with pytest.raises(IngotError, match="require_signature"):
        read(tmp_path)

"""Deploying what is signed: what does not verify is not deployed, and what was changed since is named.

What must be signed is found out without asking the folders that are to be verified.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.attest import signing
from scripts.attest.papers import SIGNATURE
from scripts.common import json_files
from scripts.common.childenv import SIGNING_KEY
from scripts.common.errors import IngotError
from scripts.common.manifest import MANIFEST
from scripts.foundry import cache as caches
from scripts.foundry import chosen, deploy, external_state, marks, planning, signature, versions
from scripts.foundry.cache import MARKER
from scripts.runtime.foundry import Runtime
from tests.attest.keys import keys
from tests.served import MODEL_ID, write_package

NAME = MODEL_ID.rpartition(":")[0]
ALIAS = NAME.removesuffix("-generic-cpu")


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
            "--signature", signature, "--public-key", self.public,
            "--output", self.folder / "build" / "tiny" / "fp32" / "deploy.json",
        )  # fmt: skip

    def deployed(self, package: Path, name: str) -> Path:
        done = self.deploy(package, self.sign(package, name))
        assert done.returncode == 0, done.stderr
        return marks.versions(self.cache, NAME)[0].folder

    def check(self, code: int) -> str:
        done = self.run("signed", "--cache", self.cache, "--asked", self.asked, "--config", self.folder,
                        "--build", self.folder / "build", "--public-key", self.public)  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def reconcile(self) -> str | None:
        """What `doit` does of itself where a deployed folder is gone; why it would once more."""
        output = self.folder / "build" / "foundry" / "reconcile.json"
        done = self.run("reconcile", "--cache", self.cache, "--asked", self.asked, "--config", self.folder,
                        "--build", self.folder / "build", "--output", output)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return external_state.standing_holds(json_files.read(output), None)


def copy_as(package: Path, target: Path, model_id: str) -> Path:
    """A package elsewhere, its files telling another id."""
    shutil.copytree(package, target)
    for name in ("README.md", MARKER):
        if (target / name).is_file():
            text = (target / name).read_text("utf-8").replace(MODEL_ID, model_id)
            (target / name).write_text(text, encoding="utf-8")
    return target


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


def lose_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def claim_another_configuration(folder: Path) -> None:
    listed = json_files.read(folder / MANIFEST)
    json_files.write(folder / MANIFEST, listed | {"ingot": listed["ingot"] | {"config": "/of/somebody/else"}})


def strip(folder: Path) -> None:
    claim_another_configuration(folder)
    (folder / SIGNATURE).unlink()


def claim_to_be_taken_back(folder: Path) -> None:
    listed = json_files.read(folder / MANIFEST)
    mark = listed["ingot"] | {"taken_back": "doit rollback", "marker": '{"Name": "evil:1"}'}
    json_files.write(folder / MANIFEST, listed | {"ingot": mark})
    (folder / MARKER).unlink()


def replace_by_a_link(folder: Path) -> None:
    away = folder.rename(folder.parents[2] / "away")
    folder.symlink_to(away)


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "without records"])
@pytest.mark.parametrize(
    ("spoil_it", "said"),
    [(lose_manifest, "manifest.json is missing"), (strip, "model.sig is missing"),
     (claim_to_be_taken_back, "inference_model.json"), (replace_by_a_link, "is a link"),
     (shutil.rmtree, "is not there")],
)  # fmt: skip
def test_no_folder_gets_out_of_it_by_what_it_says_of_itself(
    tmp_path: Path, package: Path, spoil_it: Callable[[Path], None], said: str, recorded: bool
) -> None:
    signed = Signed(tmp_path)
    folder = signed.deployed(package, "one")
    spoil_it(folder)
    if not recorded:
        shutil.rmtree(tmp_path / "build")
    told = signed.check(1)
    assert f"✗ {MODEL_ID} ({folder}): {said}" in told and "0 of 1 deployed models" in told, told


def test_what_only_says_that_it_is_of_another_configuration_is_verified_all_the_same(
    tmp_path: Path, package: Path
) -> None:
    signed = Signed(tmp_path)
    claim_another_configuration(signed.deployed(package, "one"))
    assert "1 of 1 deployed models" in signed.check(0)


def test_where_nothing_is_deployed_it_says_so(tmp_path: Path) -> None:
    assert "no signature was verified" in Signed(tmp_path).check(0)


@pytest.mark.parametrize(
    "model_id", [f"{NAME}:7", f"{NAME}:x", f"{ALIAS}-generic-gpu:1", f"{ALIAS}-Generic-NPU:1", f"{ALIAS}:1"]
)
def test_a_runtime_is_offered_no_unsigned_model_of_that_name_or_alias_from_elsewhere_in_the_cache(
    tmp_path: Path, package: Path, model_id: str
) -> None:
    signed = Signed(tmp_path)
    signed.deployed(package, "one")
    other = copy_as(package, signed.cache / "installed" / "other", model_id)
    told = signed.check(1)
    assert f"✗ {model_id} ({other}): model.sig is missing" in told and "1 of 2 deployed models" in told, told


def decoy(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / caches.SETTINGS).write_text("{}")
    (folder / MARKER).write_text('{"Name": "decoy:1"}')
    return folder


def in_the_root(cache: Path) -> Path:
    return decoy(cache) / "installed" / "other"


def in_a_download(cache: Path) -> Path:
    (decoy(cache / "installed") / "download.tmp").mkdir()
    return cache / "installed" / "other"


def in_an_empty_link(cache: Path) -> Path:
    (decoy(cache / "installed") / caches.SETTINGS).unlink()
    (cache / "installed" / caches.SETTINGS).symlink_to("nowhere")
    return cache / "installed" / "other"


def by_a_link(cache: Path) -> Path:
    (cache.parent / "away").mkdir()
    (cache / "installed").symlink_to(cache.parent / "away", target_is_directory=True)
    return cache.parent / "away" / "other"


def linked_from_a_model(cache: Path) -> Path:
    (decoy(cache / "a decoy") / "more").symlink_to(cache / "installed", target_is_directory=True)
    return cache / "installed" / "other"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("hide", [in_the_root, in_a_download, in_an_empty_link, by_a_link, linked_from_a_model])
def test_nothing_that_a_scanning_runtime_lists_is_hidden_from_the_check(
    tmp_path: Path, package: Path, hide: Callable[[Path], Path]
) -> None:
    signed = Signed(tmp_path)
    signed.deployed(package, "one")
    other = copy_as(package, hide(signed.cache), f"{NAME}:7")
    assert f"✗ {NAME}:7 ({other}): model.sig is missing" in signed.check(1)


def test_a_signed_model_does_not_pass_for_another(tmp_path: Path, onnx_folder: Path, package: Path) -> None:
    signed = Signed(tmp_path)
    folder = signed.deployed(package, "one")
    other = write_package(onnx_folder, tmp_path / "other", "other-fp32-generic-cpu:1")
    shutil.copy(signed.sign(other, "two") / SIGNATURE, folder)
    shutil.copy(other / MARKER, folder)
    assert "inference_model.json is for the model other-fp32-generic-cpu:1, not " in signed.check(1)


def test_a_version_before_does_not_pass_for_the_one_that_was_deployed(
    tmp_path: Path, package: Path, newer: Path
) -> None:
    signed = Signed(tmp_path)
    first, second = signed.deployed(package, "one"), signed.deployed(newer, "two")
    for name in (MARKER, SIGNATURE, "tokenizer_config.json"):
        data = (first / name).read_bytes()
        (second / name).write_bytes(data.replace(MODEL_ID.encode(), f"{NAME}:2".encode()) if name == MARKER else data)
    told = signed.check(1)
    assert f"{NAME}:2 ({second}): is signed, but is another package of this name" in told, told
    shutil.copy(first / MARKER, second)
    assert f"inference_model.json is for the model {MODEL_ID}, not {NAME}:2" in signed.check(1)


@pytest.mark.parametrize("number", [2, 9])
def test_no_version_before_is_listed_as_the_one_that_was_deployed_or_a_newer_one(
    tmp_path: Path, package: Path, newer: Path, number: int
) -> None:
    signed = Signed(tmp_path)
    first = signed.deployed(package, "one")
    signed.deployed(newer, "two")
    other = copy_as(first, signed.cache / "installed" / "x", f"{NAME}:{number}")
    (other / MANIFEST).unlink()
    why = {2: "is signed, but is another package of this name than the one that was deployed",
           9: f"is newer than {NAME}:2, which was deployed last"}[number]  # fmt: skip
    told = signed.check(1)
    assert f"✗ {NAME}:{number} ({other}): {why}" in told and "2 of 3 deployed models" in told, told


def test_what_was_taken_back_is_as_it_was_signed(tmp_path: Path, package: Path, newer: Path) -> None:
    signed = Signed(tmp_path)
    first, taken_back = signed.deployed(package, "one"), signed.deployed(newer, "two")
    versions.rollback(signed.cache, NAME)
    assert not (taken_back / MARKER).exists()
    assert "2 of 2 deployed models are as they were signed" in signed.check(0)
    assert signed.deploy(newer, tmp_path / "two").returncode == 0  # it stays so, and the record says so
    assert "2 of 2 deployed models are as they were signed" in signed.check(0)
    copy_as(first, signed.cache / "installed" / "x", f"{NAME}:9")
    assert f"is newer than {NAME}:2, which was deployed last" in signed.check(1)
    shutil.rmtree(signed.cache / "installed")
    versions.rollback(signed.cache, NAME, to=2)
    assert "2 of 2 deployed models are as they were signed" in signed.check(0)


def test_a_later_version_that_doit_rollback_chose_is_served_because_that_was_asked_for(
    tmp_path: Path, package: Path, newer: Path
) -> None:
    signed, build = Signed(tmp_path), tmp_path / "build"
    first, second = signed.deployed(package, "one"), signed.deployed(newer, "two")
    versions.rollback(signed.cache, NAME)
    assert signed.deploy(package, tmp_path / "one").returncode == 0  # the build is at the earlier content again
    versions.rollback(signed.cache, NAME, to=2)  # by other hands than those of this build
    assert f"{NAME}:2 ({second}): is newer than {MODEL_ID}" in signed.check(1)
    chosen.note(build, signed.cache, f"{NAME}:2")
    assert "2 of 2 deployed models" in signed.check(0)
    copy_as(first, signed.cache / "installed" / "x", f"{NAME}:9")
    assert f"{NAME}:9 ({signed.cache / 'installed' / 'x'}): is newer than {NAME}:2" in signed.check(1)
    shutil.rmtree(signed.cache / "installed")
    for name in (SIGNATURE, "tokenizer_config.json"):
        shutil.copy(first / name, second)
    assert "is signed, but is another package than the one that doit rollback chose" in signed.check(1)
    (build / "foundry" / "chosen.json").write_text("{]")
    assert signed.run("signed", "--cache", signed.cache, "--asked", signed.asked, "--config", tmp_path,
                      "--build", build, "--public-key", signed.public).returncode == 1  # fmt: skip


def test_a_newer_version_of_another_configuration_is_told_as_such(tmp_path: Path, package: Path, newer: Path) -> None:
    signed = Signed(tmp_path)
    signed.deployed(package, "one")
    found = signature.of_package(signed.sign(newer, "two"), signed.public)
    deploy.deploy(newer, MODEL_ID, signed.cache, tmp_path / "other", found)
    told = signed.check(1)
    assert f"It says that the configuration {tmp_path / 'other'} deployed it: name the model otherwise" in told, told
    assert "1 of 2 deployed models" in told


def test_what_stands_there_is_put_in_place_again_where_it_is_not_what_was_signed(tmp_path: Path, package: Path) -> None:
    signed = Signed(tmp_path)
    folder = signed.deployed(package, "one")
    (folder / "more").symlink_to("nowhere")  # no file, so nothing that a manifest lists
    assert "more is a link" in signed.check(1)
    assert signed.deployed(package, "again") == folder
    assert "1 of 1 deployed models" in signed.check(0)


def test_the_remedy_of_the_check_works(tmp_path: Path, package: Path) -> None:
    signed = Signed(tmp_path)
    folder = signed.deployed(package, "one")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    listed = json_files.read(folder / MANIFEST)  # whoever changes a file can have the manifest say so
    json_files.write(folder / MANIFEST, listed | {"files": caches.contents(folder)})
    assert "Remove each folder that is named" in signed.check(1)
    shutil.rmtree(folder)
    assert signed.deployed(package, "again") == folder
    assert "1 of 1 deployed models" in signed.check(0)


def test_the_remedy_of_the_check_works_for_an_earlier_version(tmp_path: Path, package: Path, newer: Path) -> None:
    signed = Signed(tmp_path)
    first, second = signed.deployed(package, "one"), signed.deployed(newer, "two")
    assert signed.reconcile() is None
    (first / "more.json").write_text("{}")
    assert f"✗ {MODEL_ID} ({first}): more.json was added" in signed.check(1)
    shutil.rmtree(first)
    assert "is not there" in signed.check(1)
    assert signed.reconcile() is None
    assert caches.registrations(signed.cache) == {f"{NAME}:2": second}
    assert "1 of 1 deployed models" in signed.check(0)


def test_a_registration_of_somebody_else_whose_folder_is_gone_stays_and_is_told(tmp_path: Path, package: Path) -> None:
    signed, gone = Signed(tmp_path), tmp_path / "of others"
    signed.deployed(package, "one")
    shutil.copytree(package, gone)
    with Runtime(signed.cache) as runtime:
        runtime.register(gone, f"{NAME}:0")
    shutil.rmtree(gone)
    assert signed.reconcile() is None
    assert f"✗ {NAME}:0 ({gone}): is not there, but still registered, not by Ingot" in signed.check(1)


def test_a_cache_that_was_moved_is_as_it_was_signed(tmp_path: Path, package: Path, newer: Path) -> None:
    signed = Signed(tmp_path)
    signed.deployed(package, "one")
    signed.deployed(newer, "two")
    signed.cache = signed.cache.rename(tmp_path / "moved")
    signed.deployed(newer, "again")
    assert {path.parents[1] for path in caches.registrations(signed.cache).values()} == {signed.cache}
    assert "2 of 2 deployed models" in signed.check(0)


def test_what_changes_while_it_is_copied_is_not_deployed(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed, made = Signed(tmp_path), shutil.copytree(package, tmp_path / "made")
    found = signature.of_package(signed.sign(made, "one"), signed.public)
    planned = planning.plan

    def plan(*words: Any) -> Any:  # whoever changes it knows its manifest, too
        (made / "tokenizer_config.json").write_text("{}", encoding="utf-8")
        words[2].update(caches.contents(made))
        return planned(*words)

    monkeypatch.setattr(planning, "plan", plan)
    with pytest.raises(IngotError, match=r"tokenizer_config\.json changed"):
        deploy.deploy(made, MODEL_ID, signed.cache, tmp_path, found)
    assert [path.name for path in (signed.cache / marks.FOLDER).iterdir()] == [".lock"]


@pytest.mark.parametrize("word", ["team.pub", "nowhere.pub"])
def test_the_setting_names_a_file(tmp_path: Path, word: str) -> None:
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

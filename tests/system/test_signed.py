"""Nothing unsigned is deployed where the configuration asks for signatures: through doit, with and without the key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.common.childenv import SIGNING_KEY
from tests.attest.keys import keys
from tests.system.project import Project


def test_only_who_has_the_key_deploys_and_what_is_changed_later_is_named(
    project: Project, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, _ = keys(project.config)
    private.rename(project.home / "team.key")
    row = {"name": "facts", "source": {"path": weights}, "precisions": ["int8"]}
    project.facts()
    settings = '[foundry]\nrequire_signature = "team.pub"\n'
    project.models(row, extra=settings)
    ran = project.doit("deploy")
    assert ran.code == 1 and f"{SIGNING_KEY}: is not set" in ran.out, ran.out
    assert "deploy:facts-int8" in ran.out and "skipped: follows sign:facts-int8: failed" in ran.out
    monkeypatch.setenv(SIGNING_KEY, str(project.home / "team.key"))
    ran = project.doit("deploy")
    assert ran.code == 0 and ran.steps == {"sign:facts-int8", "deploy:facts-int8"}, ran.out
    monkeypatch.delenv(SIGNING_KEY)
    assert project.doit("deploy").steps == frozenset()  # who is given the build needs no private key
    ran = project.doit("check", "--signed", "deploy")
    assert ran.code == 0 and "1 of 1 deployed models are as they were signed" in ran.out, ran.out
    [card] = project.build.glob("foundry/cache/models/ingot/*/README.md")
    good = card.read_bytes()
    card.write_text("# other", encoding="utf-8")
    ran = project.doit("check", "--signed", "deploy")
    assert ran.code == 1 and "README.md changed" in ran.out, ran.out
    card.write_bytes(good)
    manifest = card.with_name("manifest.json").rename(project.home / "manifest.json")
    ran = project.doit("check", "--signed", "attest")  # of nothing that is deployed is asked but by --signed
    assert ran.code == 1 and "manifest.json is missing" in ran.out and "0 of 1 deployed" in ran.out, ran.out
    manifest.rename(card.with_name("manifest.json"))
    project.models({**row, "gates": {"int8": {"kl": 1e-9}}}, extra=settings)
    ran = project.doit("deploy")  # what a gate refuses is not signed, and needs no key
    assert ran.code == 0 and project.json("facts/int8/deploy.json")["verdict"] == "refused", ran.out
    assert not (project.build / "facts" / "int8" / "signature" / "model.sig").exists()
    assert project.json("facts/int8/signature/unsigned.json")["verdict"] == "refused"
    assert "1 of 1 deployed models are as they were signed" in project.doit("check", "--signed", "attest").out
    shutil.rmtree(card.parent)  # which is what it asks for where something is wrong
    ran = project.doit("check", "--signed", "attest")
    assert ran.code == 1 and "is not there" in ran.out, ran.out
    ran = project.doit()
    assert ran.code == 0, ran.out
    assert "no signature was verified" in project.doit("check", "--signed", "attest").out

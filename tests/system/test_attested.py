"""What a package was made of is told as it is now: also where a newer tool makes the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.project import Project


def versions(project: Project) -> dict[str, str]:
    """The tools of the bill of materials."""
    components = project.json("facts/int8/attested/bom.cdx.json")["components"]
    return {one["name"]: one["version"] for one in components if one["type"] == "library"}


@pytest.mark.long
def test_a_newer_tool_that_makes_the_same_bytes_is_told(
    project: Project, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.facts()
    project.models({"name": "facts", "source": {"path": weights}, "precisions": ["int8"]})
    ran = project.doit("attest")
    assert ran.code == 0 and versions(project)["markupsafe"] != "99.0", ran.out
    newer = tmp_path / "newer/markupsafe-99.0.dist-info"
    newer.mkdir(parents=True)
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: MarkupSafe\nVersion: 99.0\n", encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(newer.parent), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    before = (project.build / "facts/int8/package/manifest.json").read_bytes()
    ran = project.doit("attest")
    assert ran.code == 0 and {"export:facts", "attest:facts-int8"} <= ran.steps, ran.out
    assert (project.build / "facts/int8/package/manifest.json").read_bytes() == before
    assert versions(project)["markupsafe"] == "99.0"
    assert not project.doit("attest").steps

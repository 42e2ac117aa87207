"""`doit pack … format=oci`: an image layout, read without the code that wrote it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.pack.conftest import packaged
from tests.system.project import Project


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    kind, _, digest = descriptor["digest"].partition(":")
    data: bytes = (layout / "blobs" / kind / digest).read_bytes()
    assert (kind, len(data)) == ("sha256", descriptor["size"])
    assert hashlib.sha256(data).hexdigest() == digest
    return data


@pytest.fixture
def layout(project: Project, tmp_path: Path) -> Path:
    ran = project.doit("pack", "tiny-fp32", f"out={tmp_path / 'a layout'}", "format=oci")
    assert ran.code == 0, ran.out
    return tmp_path / "a layout"


def test_every_blob_has_its_digest_and_size_and_every_file_its_title(layout: Path, project: Project) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (listed,) = index["manifests"]
    assert listed["annotations"] == {"org.opencontainers.image.ref.name": "1"}
    manifest = json.loads(blob(layout, listed))
    assert manifest["mediaType"] == listed["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == listed["artifactType"]
    assert blob(layout, manifest["config"]) == b"{}"
    found = {
        layer["annotations"]["org.opencontainers.image.title"]: blob(layout, layer) for layer in manifest["layers"]
    }
    for path in packaged(project).iterdir():
        if path.name not in ("README.md", "manifest.json"):
            assert found[path.name] == path.read_bytes()
    assert {"README.md", "SHA256SUMS", "install.sh", "report.md"} <= found.keys()
    used = {descriptor["digest"][7:] for descriptor in (listed, manifest["config"], *manifest["layers"])}
    assert {path.name for path in (layout / "blobs" / "sha256").iterdir()} == used


def test_it_is_the_same_each_time_and_replaces_only_its_like(layout: Path, project: Project, tmp_path: Path) -> None:
    before = {path.relative_to(layout): path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    refused = project.doit("pack", "tiny-fp32", f"out={layout}", "format=oci")
    assert (refused.code, "say --force" in refused.out) == (1, True), refused.out
    assert project.doit("pack", "tiny-fp32", f"out={layout}", "format=oci", "--force").code == 0
    assert before == {path.relative_to(layout): path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a layout", "a project"]


@pytest.mark.needs("olot")
def test_a_library_for_image_layouts_reads_it(layout: Path) -> None:
    from olot.oci.oci_image_index import OCIImageIndex
    from olot.oci.oci_image_layout import verify_ocilayout
    from olot.oci.oci_image_manifest import OCIImageManifest

    assert verify_ocilayout(layout)
    index = OCIImageIndex.model_validate_json((layout / "index.json").read_bytes())
    digest = index.manifests[0].digest.partition(":")[2]
    manifest = OCIImageManifest.model_validate_json((layout / "blobs" / "sha256" / digest).read_bytes())
    assert manifest.config.mediaType == "application/vnd.oci.empty.v1+json"
    assert len(manifest.layers) > 5

"""`doit pack … format=oci`: an image layout, read without the code that wrote it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
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


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry of one's own, on this machine: HOST:PORT."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
                "http": {"addr": address}}  # fmt: skip
    (tmp_path / "registry.yml").write_text(json.dumps(settings), encoding="utf-8")  # which is YAML too
    with subprocess.Popen(
        ["docker-registry", "serve", tmp_path / "registry.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
                    break
                time.sleep(0.1)
            yield address
        finally:
            process.kill()


def skopeo(source: str, target: str) -> None:
    words = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    done = subprocess.run([*words, source, target], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def blobs(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}


@pytest.mark.needs("registry")
def test_it_goes_to_a_registry_and_comes_back_as_it_was(layout: Path, registry: str, tmp_path: Path) -> None:
    skopeo(f"oci:{layout}:1", f"docker://{registry}/models/tiny:1")
    skopeo(f"docker://{registry}/models/tiny:1", f"oci:{tmp_path / 'back'}:1")
    assert blobs(tmp_path / "back") == blobs(layout)


@pytest.mark.needs("registry")
@pytest.mark.needs("oras")
def test_oras_restores_every_file_by_its_name(layout: Path, registry: str, tmp_path: Path) -> None:
    from oras.client import OrasClient

    skopeo(f"oci:{layout}:1", f"docker://{registry}/models/tiny:1")
    OrasClient(insecure=True).pull(target=f"{registry}/models/tiny:1", outdir=str(tmp_path / "pulled"))
    sums = (tmp_path / "pulled" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "pulled").iterdir()}
    assert len(sums) > 5 and found.keys() == {line.split("  ")[1] for line in sums} | {"SHA256SUMS"}
    assert all(found[name] == digest for digest, name in (line.split("  ") for line in sums))

"""An OCI image layout with the model as an artifact: a folder that `oras cp --from-oci-layout` sends to a registry.

Each file is a layer as it is, its name in the annotation that ORAS restores it by; the config is the empty one.
Sources: OCI image-spec 1.1 (image-layout.md, manifest.md, "Guidelines for Artifact Usage"); ORAS, which reads the
annotation `org.opencontainers.image.title`. Nothing tells when it was made, so the same model has the same digest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.pack import content
from scripts.pack.content import Entry
from scripts.pack.stream import CHUNK, Progress, reading
from scripts.pack.subject import Subject

ARTIFACT = "application/vnd.ingot.foundry-model.v1"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_ANNOTATION = "org.opencontainers.image."
_TYPES = {".json": "application/json", ".md": "text/markdown", ".txt": "text/plain"}
#: What an image layout consists of, at its top.
TOP = frozenset({"oci-layout", "index.json", "blobs"})


def write(path: Path, subject: Subject, entries: Sequence[Entry], progress: Progress) -> str:
    """Write the layout into a new folder; the SHA-256 of its manifest.

    Raises `IngotError` for a file that is damaged.
    """
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers = [_layer(blobs, entry, progress) for entry in entries]
    named = [(entry.name, layer["digest"].partition(":")[2]) for entry, layer in zip(entries, layers, strict=True)]
    layers.append(_layer(blobs, content.sums(named), progress))
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "artifactType": ARTIFACT,
        "config": {**_blob(blobs, b"{}", _EMPTY), "data": "e30="},
        "layers": layers,
        "annotations": {
            f"{_ANNOTATION}title": subject.id.name,
            f"{_ANNOTATION}version": str(subject.id.version),
            "ingot.verdict": subject.verdict,
            "ingot.verified": subject.verified or "not verified",
        },
    }
    described = _blob(blobs, _json(manifest), _MANIFEST)
    tag = {f"{_ANNOTATION}ref.name": str(subject.id.version)}
    listed = {**described, "artifactType": ARTIFACT, "annotations": tag}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [listed]}
    (path / "index.json").write_bytes(_json(index))
    (path / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return str(described["digest"]).partition(":")[2]


def _layer(blobs: Path, entry: Entry, progress: Progress) -> dict[str, Any]:
    work = blobs / ".incoming"
    with reading(entry, progress) as reader, work.open("wb") as file:
        shutil.copyfileobj(reader, file, CHUNK)
    work.replace(blobs / reader.sha256)
    kind = _TYPES.get(Path(entry.name).suffix, "application/octet-stream")
    return {**_descriptor(kind, reader.sha256, entry.size), "annotations": {f"{_ANNOTATION}title": entry.name}}


def _blob(blobs: Path, data: bytes, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return _descriptor(kind, digest, len(data))


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

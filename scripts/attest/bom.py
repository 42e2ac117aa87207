"""The bill of materials of a package: CycloneDX 1.6 with a model card in it (a "ML-BOM").

The form is that of bom-1.6.schema.json, against which tests hold it. It has no time and no random serial number: both
are optional there, and the same package has the same bill.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.attest.materials import Material

_TYPES = {"weights": "machine-learning-model", "adapter": "machine-learning-model", "data": "data", "tool": "library"}
#: SPDX's identifiers of the licences that model hubs know by other names.
_SPDX = {
    "apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0", "cc-by-nc-4.0": "CC-BY-NC-4.0", "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
    "cc-by-nc-nd-4.0": "CC-BY-NC-ND-4.0", "cc-by-nd-4.0": "CC-BY-ND-4.0", "gpl-3.0": "GPL-3.0-only",
    "gpl-2.0": "GPL-2.0-only", "agpl-3.0": "AGPL-3.0-only", "cc0-1.0": "CC0-1.0",
}  # fmt: skip


def bom(
    package_url: str, name: str, version: str, licence: str, description: str, files: Mapping[str, str],
    materials: Sequence[Material], figures: Sequence[Mapping[str, Any]], architecture: str, ingot: str,
) -> dict[str, Any]:  # fmt: skip
    """The bill, as JSON's values. `files`: name → SHA-256 of the package's own; `figures`: CycloneDX's
    performanceMetrics; `ingot`: its version.
    """
    references = [f"{one.role}:{number}" for number, one in enumerate(materials)]
    data = [{"ref": ref} for ref, one in zip(references, materials, strict=True) if one.role == "data"]
    parameters: dict[str, Any] = {"task": "text-generation", **({"datasets": data} if data else {})}
    if architecture:
        parameters["modelArchitecture"] = architecture
    card: dict[str, Any] = {"modelParameters": parameters}
    if figures:
        card["quantitativeAnalysis"] = {"performanceMetrics": list(figures)}
    subject = {
        "bom-ref": package_url, "type": "machine-learning-model", "name": name, "version": version,
        "description": description, **_licences(licence), "modelCard": card,
        "components": [{"bom-ref": f"file:{file}", "type": "file", "name": file, "hashes": _hashes({"sha256": digest})}
                       for file, digest in sorted(files.items())],
    }  # fmt: skip
    identity = "\n".join(f"{digest}  {file}" for file, digest in sorted(files.items()))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{package_url} {identity}')}", "version": 1,
        "metadata": {"tools": {"components": [{"type": "application", "name": "ingot", "version": ingot}]},
                     "component": subject},
        "components": [_component(ref, one) for ref, one in zip(references, materials, strict=True)],
        "dependencies": [{"ref": package_url, "dependsOn": references}, *({"ref": ref} for ref in references)],
    }  # fmt: skip


def _component(reference: str, one: Material) -> dict[str, Any]:
    """One material; of several files each, below it."""
    found: dict[str, Any] = {"bom-ref": reference, "type": _TYPES[one.role], "name": one.name}
    found |= {"version": one.version} if one.version else {}
    found |= _licences(one.licence)
    found |= {"purl": one.url} if one.url else {}
    digests = {name: value for name, value in one.digest.items() if name == "sha256"}
    if len(one.files) == 1:
        digests = {"sha256": next(iter(one.files.values()))}
    found |= {"hashes": _hashes(digests)} if digests else {}
    if len(one.files) > 1:
        found["components"] = [
            {"bom-ref": f"{reference}/{name}", "type": "file", "name": name, "hashes": _hashes({"sha256": digest})}
            for name, digest in sorted(one.files.items())
        ]
    if one.role == "data":
        found["data"] = [{"type": "dataset", "name": one.name}]
    return found


def _hashes(digests: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest} for digest in digests.values()]


def _licences(name: str) -> dict[str, Any]:
    """A licence by SPDX's identifier where there is one, else by the name that it goes by."""
    if not name or name == "unknown":
        return {}
    known = _SPDX.get(re.sub(r"\s+", "-", name.lower()))
    return {"licenses": [{"license": {"id": known} if known else {"name": name}}]}

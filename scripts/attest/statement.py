"""Where a package comes from: an in-toto Statement v1 with a SLSA Provenance v1 predicate.

Forms: https://in-toto.io/Statement/v1 and https://slsa.dev/spec/v1.0/provenance. When and on which host it was built is
left out (SLSA's `metadata` is optional): the same inputs give the same bytes. Who vouches for it says the signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.attest.materials import Material

_BUILD, _BUILDER = "urn:ingot:build:package:v1", "urn:ingot:builder"


def statement(
    files: Mapping[str, str], materials: Sequence[Material], asked: Mapping[str, Any], ingot: str
) -> dict[str, Any]:  # fmt: skip
    """The statement, as JSON's values.

    `files`: name → SHA-256 of what is told of; `asked`: what the user asked for; `ingot`: its version.
    """
    subject = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD,
                "externalParameters": dict(asked),
                "resolvedDependencies": [row for one in materials for row in _rows(one)],
            },
            "runDetails": {"builder": {"id": _BUILDER, "version": {"ingot": ingot}}},
        },
    }


def _rows(one: Material) -> list[dict[str, Any]]:
    """A material as resource descriptors: one where it was fetched, else one a file."""
    if one.url:
        told = {"name": one.name, "uri": one.url, **({"digest": dict(one.digest)} if one.digest else {})}
        return [{**told, "annotations": {"role": one.role}}]
    return [
        {"name": name if name == one.name else f"{one.name}/{name}", "digest": {"sha256": digest},
         "annotations": {"role": one.role}}
        for name, digest in sorted(one.files.items())
    ]  # fmt: skip

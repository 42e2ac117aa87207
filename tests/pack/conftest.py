"""The model "tiny", packaged, deployed and verified in precision "fp32", without a build."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.common import json_files
from scripts.common.manifest import MANIFEST, PROVENANCE
from scripts.foundry import cache as caches
from scripts.package import usage
from scripts.results import base, measured
from scripts.results.foundry import Verify
from tests.served import MODEL_ID
from tests.serving.conftest import make
from tests.system.project import Project

#: As the package stage writes it, as far as an installer and a reader of it care.
CARD = f"# tiny\n\nKnows a few facts.\n\n```python\n{usage.sdk(MODEL_ID, 'FOLDER')}\n```\n"


@pytest.fixture
def project(tmp_path: Path, package: Path) -> Project:
    made = make(tmp_path / "a project", package)
    folder = packaged(made)
    shutil.copytree(package, folder)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    json_files.write(folder / MANIFEST, {"files": caches.contents(folder)})
    json_files.write(folder / PROVENANCE, {"key": "k"})
    verified(made)
    return made


def packaged(project: Project) -> Path:
    return project.build / "tiny" / "fp32" / "attested"


def verified(project: Project) -> None:
    """As the verify step leaves it, of the package that is there."""
    result = Verify(
        verdict="passed", reasons=[], id=MODEL_ID, at="2026-01-02T03:04:05+00:00", runtime="a runtime",
        package=measured.digest(packaged(project)),
    )  # fmt: skip
    base.write(project.build / "tiny" / "fp32" / "verify.json", result)

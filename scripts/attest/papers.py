"""Names of the files that tell what a package was made of, beside the model's own."""

from __future__ import annotations

from scripts.common.manifest import NOT_CONTENT

#: Beside what it signs, and not signed itself.
SIGNATURE = "model.sig"
#: In place of a signature, why a package has none: a verdict and its reasons.
UNSIGNED_WHY = "unsigned.json"
#: What an archive has for whoever is handed it.
HANDED_ON = ("INSTALL.md", "report.md", "SHA256SUMS", "install.sh", "install.ps1")
#: What lies beside a model and is not part of it: its manifests, the signature, notes of the Foundry stage.
UNSIGNED = (*sorted(NOT_CONTENT), SIGNATURE, "verified.json", "measured.json", *HANDED_ON)

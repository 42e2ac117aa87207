"""Which package a figure belongs to: a result names the digest of the files that it was measured on."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from scripts.common import manifest
from scripts.common.manifest import Files
from scripts.common.model_files import BOM, CARD_FILES, STATEMENT

#: What describes a package and takes no part in how it answers: a new description voids no measurement.
_TOLD = (*CARD_FILES, BOM, STATEMENT)


def digest(package: Path) -> str | None:
    """The digest of a package's files, by its manifest; None of a folder that has none, such as one made by hand."""
    found = manifest.read(str(package))
    return None if found is None else served(found[0])


def served(files: Files) -> str:
    """The digest of what answers, of all these files."""
    return manifest.files_digest(
        {name: file for name, file in files.items() if not any(fnmatchcase(name, told) for told in _TOLD)}
    )

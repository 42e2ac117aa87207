"""What is handed on, file by file: the package, its card with what is known of it, the report, digests, an installer.

Everything lies in one folder, so that this folder is itself a model that a runtime can be given. The installer copies
what SHA256SUMS lists. Same inputs, same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from scripts.attest.papers import SIGNATURE
from scripts.common import manifest
from scripts.common.manifest import PROVENANCE
from scripts.common.model_files import BOM, CARD, STATEMENT
from scripts.common.visible import markdown
from scripts.pack.subject import Subject

REPORT, SUMS = "report.md", "SHA256SUMS"
#: What the receiver should know first stands in the card or, where that is signed and so stays as it is, here.
TOLD = "INSTALL.md"
INSTALLERS = ("install.sh", "install.ps1")
_SIGNED = f"""The model is signed. With the public key, of which you should have a copy already:
`python -m model_signing verify key . --signature {SIGNATURE} --public_key KEY`. Installers, report and this page are
not signed."""
_HERE = Path(__file__).parent


class _Template(Template):
    delimiter = "@@"


@dataclass(frozen=True)
class Entry:
    """A file to hand on: `source`, its bytes or where they are; `blake3` where that is what they must come to."""

    name: str
    source: Path | bytes
    size: int
    blake3: str | None = None

    @property
    def executable(self) -> bool:
        """Whether it is a program."""
        return self.name.endswith(".sh")


def entries(subject: Subject) -> list[Entry]:
    """Every file but the list of digests, by name."""
    told = {TOLD: f"# {subject.id.name}\n\n{_told(subject)}\n"} if subject.signature else {CARD: _card(subject)}
    made = {
        **told,
        REPORT: subject.report,
        **{name: _installer(_HERE / name, subject) for name in INSTALLERS},
    }
    found = [_of_text(name, text) for name, text in made.items()]
    for name, file in subject.files.items():
        if name not in made:
            found.append(Entry(name, subject.package / name, int(file["size"]), str(file["blake3"])))
    if subject.signature:
        found.append(Entry(SIGNATURE, subject.signature, len(subject.signature)))
    if (subject.package / PROVENANCE).is_file():
        found.append(_of_text(PROVENANCE, (subject.package / PROVENANCE).read_text(encoding="utf-8")))
    return sorted(found, key=lambda entry: entry.name)


def sums(digests: Sequence[tuple[str, str]]) -> Entry:
    """SHA256SUMS, as `sha256sum` and `shasum -a 256` read it, of (name, SHA-256)."""
    return _of_text(SUMS, "".join(f"{digest}  {name}\n" for name, digest in digests))


def folder_name(subject: Subject) -> str:
    """What the folder in the archive is called."""
    return subject.id.name


def _of_text(name: str, text: str) -> Entry:
    data = text.encode()
    return Entry(name, data, len(data))


def _installer(path: Path, subject: Subject) -> str:
    name = subject.id.name
    values = {"name": name, "pattern": re.sub(r"\.", r"\\.", name), "version": subject.id.version}
    return _Template(path.read_text(encoding="utf-8")).substitute(values)


def _card(subject: Subject) -> str:
    """The package's card, and behind its title what the receiver should know first."""
    path = subject.package / CARD
    card = path.read_text(encoding="utf-8") if path.is_file() else f"# {subject.id.name}\n"
    title = re.search(r"^# .*$", card, re.MULTILINE)
    at = title.end() if title else 0
    return f"{card[:at]}\n\n{_told(subject)}{card[at:]}"


def _told(subject: Subject) -> str:
    reasons = f": {markdown('; '.join(subject.reasons))}" if subject.reasons else ""
    verdict = f"Its gates: {subject.verdict}{reasons}."
    if subject.held:
        verdict = f"**It was held back by its gates ({subject.verdict}{reasons})** and handed on all the same."
    if subject.verified:
        verified = f"It was verified: loaded, and answered as expected, by {markdown(subject.verified)}."
    else:
        verified = "**Not verified**: it was not asked for an answer in the runtime that it was deployed for."
    content = manifest.files_digest(subject.files)
    signed = f"\n\n{_SIGNED}" if subject.signature else ""
    return f"""{verdict}

{verified}

To put it into the cache of a Foundry Local, on Linux and macOS: `sh install.sh [CACHE]`; on Windows: `powershell
-ExecutionPolicy Bypass -File install.ps1 [CACHE]`. Each file is held against `{SUMS}` first. What is in the cache
stays as it is: a model of this name there makes this one its next version. Figures are in `{REPORT}`, and what it was
made from in `{BOM}` (CycloneDX) and `{STATEMENT}` (in-toto, SLSA). Files of the build: BLAKE3 `{content}`.{signed}"""

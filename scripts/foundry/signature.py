"""Whether the folder of a model is what was signed for its id.

A signature doesn't name the model that it is of, but the package that was signed tells its own id, the first version's,
in `inference_model.json`. This one and the card are written anew for a later version, and are held against what they
were; and the file must tell the id at which the folder stands, so that no model passes for another.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scripts.attest import signing
from scripts.attest.papers import SIGNATURE
from scripts.attest.signing import Signed
from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import CARD
from scripts.common.visible import line
from scripts.foundry import cache as caches
from scripts.foundry.cache import MARKER


def of_package(folder: Path, public_key: Path) -> Signed:
    """What was signed, of the folder with a package's signature. Raises `IngotError` where that is not of this key."""
    try:
        return signing.read(folder / SIGNATURE, public_key)
    except signing.NotSignedError as error:
        raise _refusal(folder, [str(error)]) from None


def refuse_other(
    package: Path, model_id: str, signed: Signed, marker: bytes | None = None, copy: Path | None = None
) -> None:
    """Raise `IngotError`, naming the files, where a package, or a copy of it, is not what was signed (`problems`)."""
    if found := problems(copy or package, model_id, signed, marker):
        raise _refusal(package, found)


def problems(folder: Path, model_id: str, signed: Signed, marker: bytes | None = None) -> list[str]:
    """Why a folder is not what was signed for this id, a line for each file; empty where it is.

    `marker`: the content of `inference_model.json` where that is kept elsewhere, since no runtime is to list it.
    """
    told = _content(folder / MARKER) if marker is None else marker
    found = signing.differences(folder, signed, _as_signed({MARKER: told, CARD: _content(folder / CARD)}, model_id))
    if MARKER not in signed.files:
        found.append(f"{MARKER} was not signed")
    elif told is not None and (name := caches.named(told)) != model_id:
        found.append(line(f"{MARKER} is for the model {name}, not {model_id}"))
    return found


def _as_signed(known: dict[str, bytes | None], model_id: str) -> Callable[[str], bytes | None]:
    first = f"{model_id.rpartition(':')[0]}:1"

    def original(name: str) -> bytes | None:
        data = known.get(name)
        return None if data is None else data.replace(model_id.encode(), first.encode())

    return original


def _content(path: Path) -> bytes | None:
    try:
        return json_files.read_bytes(path)
    except (OSError, ValueError):
        return None


def _refusal(folder: Path, found: list[str]) -> IngotError:
    told = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
    return IngotError(folder, f"is not what was signed: {told}",
                      "Have it built and signed again: doit forget attest sign, then doit")  # fmt: skip

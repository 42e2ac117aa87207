"""Whether what is deployed is what was signed: `doit check --signed`.

A version's card and `inference_model.json` hold its own id, where the signed package has the first version's; they are
held against what they were. A version that was taken back has no `inference_model.json`, and is listed by no runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scripts.attest import signing
from scripts.attest.papers import SIGNATURE
from scripts.common.errors import IngotError
from scripts.common.model_files import CARD
from scripts.foundry import marks
from scripts.foundry.cache import MARKER
from scripts.foundry.marks import Own
from scripts.foundry.standing import Asked


def check(cache: Path, asked: Asked, public_key: Path) -> dict[str, list[str]]:
    """The models of this configuration in a cache, by id and folder → why each is not as it was signed.

    Raises `IngotError` where the public key is none, or model-signing is not installed.
    """
    own_cache = cache.is_relative_to(asked.build)
    found = [own for own in marks.ours(cache) if own.is_of(str(asked.config), own_cache)]
    return {f"{own.id} ({own.folder})": _problems(own, public_key) for own in found}


def refuse_unsigned(package: Path, signature: Path, public_key: Path) -> None:
    """Raise `IngotError`, naming the file, where a package is not what was signed by whoever has the private key."""
    if problems := signing.verify(package, signature, public_key):
        told = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise IngotError(package, f"is not what was signed for {public_key.name}: {told}",
                         "Have it built and signed again: doit forget attest sign, then doit")  # fmt: skip


def _problems(own: Own, public_key: Path) -> list[str]:
    found = signing.verify(own.folder, own.folder / SIGNATURE, public_key, _as_signed(own))
    return [line for line in found if not (own.taken_back and line == f"{MARKER} is missing")]


def _as_signed(own: Own) -> Callable[[str], bytes | None]:
    def original(name: str) -> bytes | None:
        if name not in (CARD, MARKER) or own.version == 1:
            return None
        try:
            return (own.folder / name).read_bytes().replace(own.id.encode(), f"{own.name}:1".encode())
        except OSError:
            return None

    return original

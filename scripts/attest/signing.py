"""Signatures of packages, by OpenSSF's model-signing with a key: who holds the private key vouches for every file.

The signature is a sigstore bundle whose payload lists each file's SHA-256. What Ingot and the runtime write beside a
model later is left out, by a list that is signed too, so `model_signing verify key FOLDER` needs no options.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.attest.papers import SIGNATURE, UNSIGNED
from scripts.common.childenv import SIGNING_KEY, SIGNING_PASSWORD
from scripts.common.errors import IngotError

_PARTS = (
    (re.compile(r"Extra files found in model '[^']*': (.*)"), "was added"),
    (re.compile(r"Missing files in model '[^']*': (.*)"), "is missing"),
)
_CHANGED = re.compile(
    r"Hash mismatch for '(.*?)': Expected 'Digest\(algorithm='sha256', digest_value=(b.*?)\)', Actual", re.DOTALL
)


def sign(folder: Path, public_key: Path, output: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Write the signature of the package in `folder` to the new folder `output`.

    The private key is a PEM file that the environment names. Raises `IngotError` where there is none, it can't be read,
    or it is not that of `public_key`.
    """
    key = environment.get(SIGNING_KEY)
    if not key:
        raise IngotError(SIGNING_KEY, "is not set, and nothing may be deployed unsigned (require_signature)",
                         "Set it to the file with the private key, or share a store with who has it")  # fmt: skip
    _, signing, _ = _library()
    password = environment.get(SIGNING_PASSWORD)
    try:
        config = signing.Config().use_elliptic_key_signer(
            private_key=key, password=password.encode() if password else None
        )
    except (OSError, ValueError, TypeError) as error:
        # The library's text may quote the key.
        found = error.strerror if isinstance(error, OSError) else "is not a private key of an elliptic curve, as PEM"
        remedy = f"Make one: openssl ecparam -name prime256v1 -genkey -noout; a password goes into {SIGNING_PASSWORD}"
        raise IngotError(key, str(found), remedy) from None
    output.mkdir(parents=True)
    config.set_hashing_config(_hashing()).sign(folder, output / SIGNATURE)
    if problems := verify(folder, output / SIGNATURE, public_key):
        raise IngotError(key, f"is not the private key of {public_key}: {problems[0]}", f"Correct {SIGNING_KEY}")


def verify(
    folder: Path, signature: Path, public_key: Path, original: Callable[[str], bytes | None] = lambda _: None
) -> list[str]:
    """Why a folder is not what was signed by whoever has the private key of `public_key`; empty where it is.

    A line for each file. `original`: the content of a file as it was signed, where it may have been renamed since.
    Raises `IngotError` where the public key is none.
    """
    import hashlib

    _, _, verifying = _library()
    if not signature.is_file():
        return [f"{signature.name} is missing: it is not signed"]
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (OSError, ValueError, TypeError):
        remedy = "Name the PEM file of the public key: openssl ec -in PRIVATE -pubout"
        raise IngotError(public_key, "is not the public key of an elliptic curve, as PEM", remedy) from None
    try:
        config.set_hashing_config(_hashing()).verify(folder, signature)
    except ValueError as error:
        found = list(_named(str(error)))
        if not found:
            return [f"{signature.name} is not a signature by {public_key.name}"]
        known = ((name, what, original(name) if digest else None, digest) for name, what, digest in found)
        return [
            f"{name} {what}"
            for name, what, data, digest in known
            if data is None or hashlib.sha256(data).digest() != digest
        ]
    except Exception as error:  # noqa: BLE001  (whatever its parsers and cryptography raise of a file of strangers)
        return [f"{signature.name} is not a signature by {public_key.name} ({type(error).__name__})"]
    return []


def _named(text: str) -> Iterator[tuple[str, str, bytes]]:
    """(file, what is wrong with it, the digest that was signed) of the library's message."""
    _, told, lines = text.partition("Signature mismatch: ")
    for line in ast.literal_eval(lines) if told else ():
        for pattern, what in _PARTS:
            if found := pattern.fullmatch(line):
                yield from ((name, what, b"") for name in found[1].split(", "))
        if found := _CHANGED.match(line):
            yield found[1], "changed", ast.literal_eval(found[2])


def _hashing() -> Any:
    hashing, _, _ = _library()
    config = hashing.Config().use_file_serialization()
    return config.set_ignored_paths(paths=UNSIGNED, ignore_git_paths=False)


def _library() -> tuple[Any, Any, Any]:
    """The modules of model-signing 1.1.1 that hash, sign and verify."""
    try:
        from model_signing import hashing, signing, verifying
    except ModuleNotFoundError as error:
        raise IngotError(f"model-signing: {error.name}", "is not installed", "pip install -e '.[team]'") from None
    return hashing, signing, verifying

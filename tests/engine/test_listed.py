"""What a shared store says of an artifact is read with suspicion: a name that leads out, a size that can't be."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from scripts.common.hashes import digest_bytes
from scripts.engine import listed
from scripts.engine.listed import File, Listed, LyingError

DIGEST = "ab" * 32
SOUND = {"size": 3, "blake3": DIGEST}


def text(files: Any, key: str = "k", **more: Any) -> bytes:
    """A text as `dumps` writes it, its own digest right, of whatever is in it."""
    body = {"version": listed.VERSION, "key": key, "files": files, "seconds": 1.0, **more}
    return json.dumps({"blake3": digest_bytes(json.dumps(body, sort_keys=True).encode()), "body": body}).encode()


def test_what_was_written_is_read() -> None:
    made = Listed("k", {"a/b.json": File(3, DIGEST), "own": File(5, "cd" * 32, own=True, link=True)}, 2.5)
    assert listed.loads(listed.dumps(made), "k") == made
    assert made.blobs == {DIGEST: 3}


@pytest.mark.parametrize("name", [
    "../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a/.", "a/..", "C:/x", "C:x", "..\\x", "a\\b", "a\0b", "a\nb",
    "nul", "\ud800.txt", "a/CON.txt", "a.", "a ", "x" * 500, "manifest.json", "provenance.json", "Manifest.JSON",
])  # fmt: skip
def test_a_name_that_is_no_path_inside_a_folder_is_refused(name: str) -> None:
    with pytest.raises(LyingError):
        listed.loads(text({name: SOUND}), "k")


@pytest.mark.parametrize("files", [
    {}, [], None, {"a": None}, {"a": []}, {"a": {"size": -1, "blake3": DIGEST}},
    {"a": {"size": True, "blake3": DIGEST}},
    {"a": {"size": 1 << 60, "blake3": DIGEST}}, {"a": {"size": 1.5, "blake3": DIGEST}}, {"a": {"size": 1}},
    {"a": {"size": 1, "blake3": "../" + DIGEST}}, {"a": {"size": 1, "blake3": DIGEST.upper()}},
    {"a": SOUND, "A": SOUND}, {"a": SOUND, "a/b": SOUND}, {str(n): SOUND for n in range(listed.MOST_FILES + 1)},
])  # fmt: skip
def test_files_that_cannot_be_are_refused(files: Any) -> None:
    with pytest.raises(LyingError):
        listed.loads(text(files), "k")


def test_an_artifact_does_not_stand_for_another() -> None:
    for data in (text({"a": SOUND}, key="other"), text({"a": SOUND}, version=2)):
        with pytest.raises(LyingError):
            listed.loads(data, "k")


@given(some.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(LyingError):
        listed.loads(data, "k")


@given(at=some.integers(0, 10_000), bit=some.integers(0, 7))
def test_a_flipped_bit_is_seen(at: int, bit: int) -> None:
    made = Listed("k", {"weights.bin": File(3, DIGEST), "config.json": File(5, "cd" * 32)}, 2.5)
    data = bytearray(listed.dumps(made))
    data[at % len(data)] ^= 1 << bit
    with contextlib.suppress(LyingError):
        assert listed.loads(bytes(data), "k") == made  # white space alone


@given(some.dictionaries(some.text(max_size=12), some.just(SOUND), min_size=1, max_size=3))
def test_whatever_the_names_nothing_leads_out(files: dict[str, Any]) -> None:
    try:
        found = listed.loads(text(files), "k")
    except LyingError:
        return
    assert all(".." not in name.split("/") and not name.startswith("/") for name in found.files)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, 1e12, 10**400, True, "long", None])
def test_how_long_it_took_is_believed_within_reason(seconds: Any) -> None:
    assert listed.loads(text({"a": SOUND}, seconds=seconds), "k").seconds == 0.0

"""Readers of strangers' files, fuzzed: each ends with what it read or our own error in one clean line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from scripts.common.errors import IngotError
from tests.hostile.readers import READERS

#: Cases of each reader in `make test`, and in `make test-all`, where they are at least `ALL` together.
FEW, MANY, ALL = 20, 420, 10_000


def have_read(name: str, folder: Path, data: bytes) -> None:
    reader = READERS[name]
    for file, content in {**reader.beside, reader.file: data}.items():
        (folder / file).write_bytes(content)
    reader.read(folder)


def fuzz(name: str, cases: int) -> int:
    """Have a reader read so many spoilt files, the same every time; how many there were."""
    count = 0

    @settings(max_examples=cases, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(READERS[name].spoilt)
    def run(data: bytes) -> None:
        nonlocal count
        count += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                have_read(name, Path(folder), data)
            except IngotError as error:
                assert str(error).isprintable() and len(str(error)) < 3000, str(error)

    run()
    return count


@pytest.mark.parametrize("name", READERS)
def test_a_sound_file_is_read(name: str, tmp_path: Path) -> None:
    """Else nothing behind the first check of a reader would be reached."""
    have_read(name, tmp_path, READERS[name].sound)


@pytest.mark.parametrize("name", READERS)
def test_some_spoilt_files(name: str) -> None:
    assert fuzz(name, FEW) >= FEW


@pytest.mark.long
def test_ten_thousand_spoilt_files() -> None:
    assert sum(fuzz(name, MANY) for name in READERS) >= ALL

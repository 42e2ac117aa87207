"""Small files of the user's: read in bounded time and memory, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.common.errors import IngotError, MissingInputError
from scripts.common.machine import usable_memory
from scripts.common.user_files import check_text, read_json, read_text, resolved


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(tmp_path / "a") == "{}"
    assert read_json(tmp_path / "a") == {}


def test_a_file_that_is_not_there_is_missing_and_has_the_callers_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="Make one"):
        read_text(tmp_path / "a", missing="Make one")


def test_more_than_the_limit_is_refused_and_as_much_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    assert len(read_text(tmp_path / "a", most=1000)) == 1000
    with pytest.raises(IngotError, match="is larger than"):
        read_text(tmp_path / "a", most=999)


@pytest.mark.parametrize("content", ["{", "[NaN]", "[" * 100_000, "[" * 101 + "]" * 101, "1" * 5000, '{"a": 1} x'])
def test_what_is_not_plain_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").write_text(content, encoding="utf-8")
    with pytest.raises(IngotError, match=f"^{tmp_path / 'a'}: ") as error:
        read_json(tmp_path / "a")
    assert len(str(error.value)) < 400


def test_the_beginning_of_a_large_text_is_enough_and_may_end_inside_a_character(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write("ä".encode() * 1000)
        file.truncate(1 << 40)
    check_text(tmp_path / "a", most=1001)
    (tmp_path / "b").write_bytes(b"good\xff")
    with pytest.raises(IngotError, match="is not UTF-8"):
        check_text(tmp_path / "b")


@pytest.mark.parametrize("name", ["a\0b", "~nobody-is-called-this/x"])
def test_what_can_not_be_a_path_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        resolved(tmp_path, name)


def test_a_path_is_relative_to_its_files_folder(tmp_path: Path) -> None:
    assert resolved(tmp_path, "../a") == (tmp_path.parent / "a").resolve()


def test_a_step_may_use_most_of_what_this_machine_has() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < usable_memory() < total

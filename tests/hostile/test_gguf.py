"""GGUF files whose header says what no model's does: told in one line that names the file, and nothing is loaded."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from scripts.checkpoint.headers import read_gguf
from scripts.common.errors import IngotError
from tests.hostile import readers
from tests.hostile.limited import Stages

HUGE = (1 << 60, (1 << 64) - 1)


def text(word: str, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(word) if length is None else length) + word.encode()


def tensor(name: str = "a", shape: tuple[int, ...] = (4,), kind: int = 0, at: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at)


def gguf(tensors: list[bytes], pairs: tuple[bytes, ...] = (), counts: tuple[int, int] | None = None) -> bytes:
    """A file with that header, and 64 bytes of data."""
    counted = struct.pack("<QQ", *(counts or (len(tensors), len(pairs))))
    head = b"GGUF" + struct.pack("<I", 3) + counted + b"".join((*pairs, *tensors))
    return head + bytes(-len(head) % 32 + 64)


FILES: dict[str, tuple[bytes, str]] = {
    **{f"{n} tensors": (gguf([], counts=(n, 0)), f"damaged: {n} tensors") for n in HUGE},
    **{f"{n} pairs": (gguf([], counts=(0, n)), f"damaged: {n} pairs") for n in HUGE},
    **{f"a key of {n}": (gguf([], (text("a", n),)), "truncated within its header") for n in HUGE},
    **{f"a name of {n}": (gguf([text("a", n)]), "truncated within its header") for n in HUGE},
    **{f"a text of {n}": (gguf([], (text("a") + struct.pack("<IQ", 8, n),)), "truncated") for n in HUGE},
    **{f"{n} texts": (gguf([], (text("a") + struct.pack("<IIQ", 9, 8, n),)), "texts in a list") for n in HUGE},
    **{f"{n} numbers": (gguf([], (text("a") + struct.pack("<IIQ", 9, 4, n),) * 2), "truncated") for n in HUGE},
    "a value of an unknown type": (gguf([], (text("a") + struct.pack("<I", 99),)), "unknown type 99"),
    "overlap": (gguf([tensor(shape=(8,)), tensor("b", at=16)]), "tensors a and b overlap"),
    "one in another": (gguf([tensor(shape=(16,)), tensor("b", at=32)]), "tensors a and b overlap"),
    "the same place": (gguf([tensor(), tensor("b")]), "tensors a and b overlap"),
    "a name twice": (gguf([tensor(), tensor(at=32)]), "two tensors called a"),
    **{f"at {at}": (gguf([tensor(at=at)]), "truncated") for at in (64, *HUGE)},
    **{f"shape of {n}": (gguf([tensor(shape=(n, n))]), "truncated") for n in HUGE},
    "a negative dimension": (gguf([tensor(shape=((1 << 64) - 4,))]), "truncated"),
    "an empty dimension": (gguf([tensor(shape=(4, 0))]), "a holds no number"),
    "no dimension": (gguf([tensor(shape=())]), "a holds no number"),
    "an unknown type": (gguf([tensor(kind=99)]), "a is of the unknown type 99"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_header(tmp_path: Path, kind: str) -> None:
    data, said = FILES[kind]
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(IngotError) as error:
        read_gguf(path)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value) and error.value.remedy


def test_tensors_beside_each_other_in_any_order(tmp_path: Path) -> None:
    """Padded to the alignment, and not told in the order of their places."""
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf([tensor(at=32), tensor("b")]))
    assert list(read_gguf(path).tensors) == ["a", "b"]
    path.write_bytes(readers.gguf())
    assert list(read_gguf(path).tensors) == ["token_embd.weight"]


def test_a_stage_says_the_same(stages: Stages, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    for kind in ("overlap", "an unknown type"):
        path.write_bytes(FILES[kind][0])
        stages.refused("checkpoint", "build", "a.gguf", FILES[kind][1], source=path, output=tmp_path / "made")

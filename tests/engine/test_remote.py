"""A place that stalls, is slow or breaks off: each call ends, with one kind of error."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scripts.common.hashes import digest_bytes
from scripts.engine import shared
from scripts.engine.digests import Digests
from scripts.engine.fetching import Fetching, blob
from scripts.engine.listed import LyingError
from scripts.engine.remote import Remote, RemoteError, TooShortError
from scripts.engine.state import State

pytest.importorskip("fsspec")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "a share"
    made.mkdir()
    return made


def fetching(remote: Remote, build: Path, patience: float = 60) -> Fetching:
    build.mkdir(exist_ok=True)
    return Fetching(remote, build, Digests(State(build / "state.db")), patience, lambda _: None)


def test_what_is_written_is_read_in_pieces(place: Path) -> None:
    remote = Remote(place.as_uri())
    remote.write("v1/a", b"0123456789")
    assert remote.read("v1/a", 2, 5) == b"234" and remote.read("v1/a", 8, 20) == b"89"
    assert remote.size("v1/a") == 10 and remote.size("v1/b") is None and remote.read("v1/b", 0, 1) is None
    assert [size for size, _ in remote.listing("v1").values()] == [10] and remote.listing("v2") == {}
    with pytest.raises(TooShortError):
        remote.read("v1/a", 10, 20)
    remote.remove(["v1/b", "v1/a"])
    assert remote.size("v1/a") is None


def test_what_can_not_be_read_is_not_taken_for_cut_short(place: Path) -> None:
    """The words of an error may hold anything, such as the name of a folder called orange."""
    (place / "orange" / "blob").mkdir(parents=True)
    with pytest.raises(RemoteError, match="orange"):
        Remote((place / "orange").as_uri()).read("blob", 0, 10)
    (place / "orange" / "empty").touch()
    with pytest.raises(TooShortError):
        Remote((place / "orange").as_uri()).read("empty", 0, 10)


@pytest.mark.skipif(os.name == "nt", reason="it has no named pipes of this kind")
def test_a_call_that_gets_no_answer_is_left_behind(place: Path) -> None:
    os.mkfifo(place / "stalls")  # as a network file system does whose server is gone
    started = time.monotonic()
    with pytest.raises(RemoteError, match="no answer"):
        Remote(place.as_uri(), patience=0.5).read("stalls", 0, 10)
    assert time.monotonic() - started < 20


def test_a_fetch_that_takes_longer_than_it_may_is_given_up(place: Path, tmp_path: Path) -> None:
    data = b"content"
    remote = Remote(place.as_uri())
    remote.write(blob(digest_bytes(data)), data)
    into = tmp_path / "into"
    into.mkdir()
    wanted = {digest_bytes(data): len(data)}
    with pytest.raises(RemoteError, match="slower"):
        fetching(remote, tmp_path / "build", patience=-1).bring(wanted, into)
    assert [path.read_bytes() for path in fetching(remote, tmp_path / "build").bring(wanted, into).values()] == [data]


class _Crawling(Remote):
    """Each content takes a while, and none is ever too slow by itself."""

    def upload(self, name: str, file: str, most: float = 1e9) -> None:
        time.sleep(0.2)
        super().upload(name, file, most)


def test_an_upload_that_crawls_is_given_up_by_the_size_of_the_artifact(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PATIENCE", 0.5)
    monkeypatch.setattr(shared, "Remote", _Crawling)
    made = tmp_path / "build" / "made"
    made.mkdir(parents=True)
    for number in range(20):
        (made / f"{number}").write_text(f"content {number}")
    notes: list[str] = []
    digests = Digests(State(tmp_path / "build" / "state.db"))
    store = shared.Shared(place.as_uri(), tmp_path / "build", digests, notes.append, writes=True)
    for key in ("a" * 64, "b" * 64):
        store.upload(key, made, {}, 1.0)
    [note] = notes
    assert "longer than it may for 0 MB (1 s)" in note or "gave no answer" in note, note
    assert "nothing more is put there" in note and not list((place / "v1").glob("artifacts/*/*"))


def test_a_content_that_is_larger_or_missing_is_no_hit(place: Path, tmp_path: Path) -> None:
    remote = Remote(place.as_uri())
    digest = digest_bytes(b"content")
    remote.write(blob(digest), b"content and more")
    with pytest.raises(LyingError, match="missing"):
        fetching(remote, tmp_path / "build").bring({"0" * 64: 5}, tmp_path)
    assert (fetching(remote, tmp_path / "build").bring({digest: 7}, tmp_path)[digest]).read_bytes() == b"content"


def test_a_protocol_without_its_package_says_what_to_install() -> None:
    with pytest.raises(RemoteError, match="pip install"):
        Remote("gs://bucket/ingot").read("v1/store.json", 0, 10)

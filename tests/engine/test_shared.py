"""A team's store: what one has built, the others fetch, byte for byte; whatever is wrong with it, the build goes on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from scripts.common.hashes import digest_bytes, digest_file
from tests.engine import s3 as s3_module
from tests.engine.projects import Project, ran
from tests.engine.s3 import S3, Answer, Asked, Fault

#: An output larger than a piece of a fetch, one that shares its bytes, one that links to the user's, one with a copy of
#: the user's, a result, and one that measures.
GRAPH = (
    {"name": "blow", "verb": "blow", "inputs": ["src/a"], "parameters": {"size": 9 << 20}},
    {"name": "relink", "verb": "relink", "inputs": ["blow"]},
    {"name": "refer", "verb": "refer", "inputs": ["src/a"]},
    {"name": "copy", "verb": "copy", "inputs": ["src/a"]},
    {"name": "split", "verb": "split", "inputs": ["copy"]},
    {"name": "count", "verb": "count", "inputs": ["src/a"]},
    {"name": "clock", "verb": "clock", "inputs": ["src/a"], "alone": True},
)
URL = "s3://team/ingot"
NAMES = {str(row["name"]) for row in GRAPH}


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install -e '.[team]'")
    pytest.importorskip("moto", reason="moto is not installed: pip install -r requirements-dev.lock")
    with s3_module.server() as found:
        yield found


def enter(server: S3, to: pytest.MonkeyPatch, objects: Mapping[str, bytes]) -> S3:
    """A bucket with these objects, and the environment that leads to it."""
    server.hold(objects)
    for name, value in s3_module.ENVIRONMENT.items():
        to.setenv(name, value)
    to.setenv("AWS_ENDPOINT_URL", server.endpoint)
    return server


@pytest.fixture
def s3(server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An empty bucket."""
    return enter(server, monkeypatch, {})


def clone(folder: Path, url: str, *, write: bool = False) -> Project:
    project = Project(folder, GRAPH)
    project.share(url, write=write)
    return project


def fetched(said: str) -> set[str]:
    return {line.split()[1] for line in said.splitlines() if line.startswith("✓ ") and "fetched in" in line}


def contents(project: Project) -> dict[str, str]:
    """What was made, but for what is measured anew each time."""
    return {name: digest for name, digest in project.contents().items()
            if not name.startswith(("clock", ".ingot/clock", ".fetched"))}  # fmt: skip


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the graph makes, without any store."""
    project = Project(tmp_path_factory.mktemp("alone") / "project", GRAPH)
    project.doit()
    return contents(project)


@pytest.fixture(scope="module")
def first(server: S3, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, bytes], list[Asked]]:
    """A clone that built with an empty store, what that holds then, and what was asked of it."""
    with pytest.MonkeyPatch.context() as patch:
        s3 = enter(server, patch, {})
        project = clone(tmp_path_factory.mktemp("first") / "project", URL, write=True)
        said = project.doit()
        assert "shared store s3" not in said, said
        asked = list(s3.asked)
        return project, {key: s3.request("GET", key) for key in s3.objects()}, asked


@pytest.fixture
def filled(first: tuple[Project, dict[str, bytes], list[Asked]], server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A store that holds what the first clone built."""
    return enter(server, monkeypatch, first[1])


def test_a_second_clone_fetches_byte_for_byte_and_builds_what_is_measured(
    filled: S3, right: dict[str, str], tmp_path: Path
) -> None:
    filled.asked.clear()
    second = clone(tmp_path / "elsewhere" / "second", URL)
    said = second.doit()
    assert fetched(said) == NAMES - {"clock"}
    assert contents(second) == right
    assert second.doit("check", "--deep").startswith("7 whole")
    assert {asked.method for asked in filled.asked} == {"GET"}, "who only reads writes nothing"
    assert second.litter() == [] and not list((second.build / ".fetched").glob("*.part"))


def test_the_store_holds_each_content_once_and_none_of_the_users(
    first: tuple[Project, dict[str, bytes], list[Asked]],
) -> None:
    project, objects, asked = first
    big = digest_file(project.build / "blow/big.bin")
    assert sum(name.endswith(big) for name in objects) == 1
    assert not [name for name, data in objects.items() if data == b"alpha and omega"]
    puts = [one.path for one in asked if one.method in ("PUT", "POST")]
    for name in (name for name in objects if "/artifacts/" in name):
        files = json.loads(objects[name])["body"]["files"].values()
        needed = [puts.index(put) for file in files for put in puts if put.endswith(file["blake3"])]
        assert all(at < puts.index(name) for at in needed), "the manifest comes last"


def test_shared_content_is_fetched_once(filled: S3, tmp_path: Path) -> None:
    filled.asked.clear()
    second = clone(tmp_path / "second", URL)
    second.doit()
    big = digest_file(second.build / "blow/big.bin")
    starts = [asked.start for asked in filled.asked if asked.path.endswith(big)]
    assert set(starts) == {0, 8 << 20} and len(starts) == 2


def test_a_no_op_asks_nothing_and_imports_nothing(
    first: tuple[Project, dict[str, bytes], list[Asked]], filled: S3
) -> None:
    project = first[0]
    filled.asked.clear()
    said = project.doit(PYTHONPROFILEIMPORTTIME="1")
    assert ran(said) == set() and filled.asked == []
    assert "scripts.engine.session" in said
    assert not [name for name in ("fsspec", "s3fs", "scripts.engine.remote", "scripts.engine.shared") if name in said]


@pytest.mark.usefixtures("filled")
def test_a_changed_input_is_no_hit(tmp_path: Path) -> None:
    second = clone(tmp_path / "second", URL)
    second.write("src/a/x.txt", "another text")
    assert fetched(second.doit()) == set()


@pytest.mark.usefixtures("filled")
def test_what_is_forgotten_is_built_and_not_fetched(tmp_path: Path) -> None:
    second = clone(tmp_path / "second", URL)
    second.doit()
    second.doit("forget", "blow")
    assert "blow                         built in" in second.doit()
    shutil.rmtree(second.build)
    assert "blow" in fetched(second.doit())


def is_blob(asked: Asked) -> bool:
    return asked.method == "GET" and "/blobs/" in asked.path


def cut(_: Asked, answer: Answer) -> Answer:
    return dataclasses.replace(answer, body=answer.body[: len(answer.body) // 2], whole=False)


def truncated(asked: Asked, answer: Answer) -> Answer:
    if asked.start:  # beyond what is there
        return Answer(416, [], b"<Error><Code>InvalidRange</Code></Error>")
    return dataclasses.replace(answer, body=answer.body[: len(answer.body) // 2])


def flipped(_: Asked, answer: Answer) -> Answer:
    middle = len(answer.body) // 2
    body = answer.body[:middle] + bytes([answer.body[middle] ^ 4]) + answer.body[middle + 1 :] if answer.body else b""
    return dataclasses.replace(answer, body=body)


def storm(*_: object) -> Answer:
    return Answer(503, [], b"<Error><Code>SlowDown</Code></Error>")


def skewed(*_: object) -> Answer:
    text = f"<Error><Code>RequestTimeTooSkewed</Code><Message>{s3_module.SECRET}</Message></Error>"
    return Answer(403, [("Date", "Thu, 01 Jan 2026 00:00:00 GMT")], text.encode())


def where(holds: Callable[[Asked], object], fault: Fault) -> Fault:
    """A fault in the answers to some requests."""
    return lambda asked, answer: fault(asked, answer) if holds(asked) else answer


FAULTS: dict[str, Fault] = {
    "dropped connections": where(is_blob, cut), "flipped bits": where(is_blob, flipped),
    "flipped bits everywhere": flipped, "a storm of 503": storm, "a storm of 503 on contents": where(is_blob, storm),
    "clocks that differ": skewed, "content that is cut short": where(is_blob, truncated),
    "manifests that are cut short": where(lambda asked: "/artifacts/" in asked.path, truncated),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_a_store_that_fails_costs_a_warning_and_nothing_else(
    what: str, filled: S3, right: dict[str, str], tmp_path: Path
) -> None:
    filled.fault = FAULTS[what]
    second = clone(tmp_path / "second", URL)
    said = second.doit()
    assert contents(second) == right
    warned = [line for line in said.splitlines() if line.startswith("shared store")]
    assert 1 <= len(warned) <= 3, said
    assert len(set(warned)) == len(warned) and "going on without it" in warned[-1]
    assert s3_module.SECRET not in said and second.litter() == []


@pytest.mark.parametrize("fault", [cut, flipped, storm], ids=["dropped", "flipped", "503"])
def test_now_and_then_a_fault_is_no_reason_to_build(fault: Fault, filled: S3, right: dict[str, str],
                                                    tmp_path: Path) -> None:  # fmt: skip
    seen = set[Asked]()

    def is_new(asked: Asked) -> bool:
        new = is_blob(asked) and asked not in seen
        seen.add(asked)
        return new

    filled.fault = where(is_new, fault)
    second = clone(tmp_path / "second", URL)
    said = second.doit()
    assert fetched(said) == NAMES - {"clock"} and "shared store" not in said.replace("from the shared store", ""), said
    assert contents(second) == right


def test_a_fetch_that_was_cut_short_is_gone_on_with(filled: S3, right: dict[str, str], tmp_path: Path) -> None:
    filled.fault = where(lambda asked: is_blob(asked) and asked.start, storm)
    second = clone(tmp_path / "second", URL)
    assert "blow" not in fetched(second.doit())
    [part] = (second.build / ".fetched").glob("*.part")
    assert part.stat().st_size == 8 << 20
    shutil.rmtree(second.build / "store")
    shutil.rmtree(second.build / "blow")
    filled.fault = s3_module.sound
    filled.asked.clear()
    assert "blow" in fetched(second.doit())
    assert [asked.start for asked in filled.asked if is_blob(asked)] == [8 << 20]
    assert contents(second) == right


@pytest.mark.usefixtures("s3")
def test_a_store_that_cannot_be_reached_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, right: dict[str, str], tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_module.free_port()}")
    project = clone(tmp_path / "second", URL, write=True)
    said = project.doit()
    assert said.count("shared store") == 1 and contents(project) == right


def test_what_was_damaged_is_mended_by_the_next_that_may_write(filled: S3, tmp_path: Path) -> None:
    big = next(name for name, size in filled.objects("ingot/v1/blobs").items() if size == 9 << 20)
    filled.request("PUT", big, b"x" * (9 << 20))
    assert "blow" not in fetched(clone(tmp_path / "second", URL, write=True).doit())
    assert "blow" in fetched(clone(tmp_path / "third", URL).doit())


@pytest.mark.usefixtures("s3")
def test_two_who_build_the_same_at_once_do_no_harm(right: dict[str, str], tmp_path: Path) -> None:
    both = [clone(tmp_path / name, URL, write=True) for name in ("one", "two")]
    runs = [project.start() for project in both]
    said = [run.communicate(timeout=200)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    third = clone(tmp_path / "three", URL)
    assert fetched(third.doit()) == NAMES - {"clock"}
    assert contents(third) == right


def test_an_upload_that_fails_leaves_no_artifact_behind(s3: S3, right: dict[str, str], tmp_path: Path) -> None:
    s3.fault = where(lambda asked: asked.method in ("PUT", "POST") and "blobs" in asked.path, storm)
    first = clone(tmp_path / "first", URL, write=True)
    said = first.doit()
    assert said.count("shared store s3") == 1 and contents(first) == right
    names = s3.objects("ingot/v1/artifacts")
    for name in names:
        files = json.loads(s3.request("GET", name))["body"]["files"].values()
        assert all(file.get("own") for file in files), "only what needs no content is there"


def die_at_request(number: int, s3: S3, folder: Path, right: dict[str, str], *, write: bool) -> bool:
    """Kill a doit when the server has done the request `number` of it; whether there were so many."""
    project, count = clone(folder / "killed", URL, write=write), itertools.count(1)

    def kill(_: Asked, answer: Answer) -> Answer:
        if next(count) == number:
            os.killpg(doit.pid, signal.SIGKILL)
        return answer

    s3.fault = kill
    doit = project.start()
    doit.communicate()
    s3.fault = s3_module.sound
    for name in s3.objects("ingot/v1/artifacts"):
        for file in json.loads(s3.request("GET", name))["body"]["files"].values():
            if file["size"] and not file.get("own"):
                blob = s3.request("GET", f"ingot/v1/blobs/{file['blake3'][:2]}/{file['blake3']}")
                assert digest_bytes(blob) == file["blake3"]
    said = project.doit()
    assert "shared store s3" not in said and contents(project) == right and project.litter() == []
    other = clone(folder / "other", URL)
    had = fetched(other.doit())  # what was cut short on its way there is built by who needs it
    assert contents(other) == right and (write or had == NAMES - {"clock"})
    return next(count) > number


@pytest.mark.parametrize("numbers", [(11,), pytest.param(range(1, 1000), marks=pytest.mark.long)], ids=["one", "all"])
@pytest.mark.timeout(3600)
def test_who_writes_is_killed_at_a_request(
    numbers: Sequence[int], s3: S3, right: dict[str, str], tmp_path: Path
) -> None:
    deaths = 0
    for number in numbers:
        s3.hold({})
        if not die_at_request(number, s3, tmp_path / f"{number}", right, write=True):
            break
        deaths += 1
    assert deaths >= min(len(numbers), 10)


@pytest.mark.parametrize("numbers", [(9,), pytest.param(range(1, 1000), marks=pytest.mark.long)], ids=["one", "all"])
@pytest.mark.timeout(3600)
def test_who_reads_is_killed_at_a_request(
    numbers: Sequence[int], filled: S3, right: dict[str, str], tmp_path: Path
) -> None:
    deaths = 0
    for number in numbers:
        if not die_at_request(number, filled, tmp_path / f"{number}", right, write=False):
            break
        deaths += 1
    assert deaths >= min(len(numbers), 10)


def test_gc_speaks_with_a_server_too(filled: S3, tmp_path: Path) -> None:
    blobs = filled.objects("ingot/v1/blobs")
    said = clone(tmp_path / "second", URL, write=True).doit("gc", "--shared", "0")
    assert "6 removed (0.00 GB), 0 left" in said and filled.objects("ingot/v1/artifacts") == {}
    assert filled.objects("ingot/v1/blobs") == blobs and not filled.objects("ingot/v1/clock"), "young ones stay"


def test_no_credential_is_written_down(s3: S3, tmp_path: Path) -> None:
    s3.fault = skewed
    first = clone(tmp_path / "first", URL, write=True)
    said = first.doit()
    files = [path.read_bytes() for path in first.folder.rglob("*") if path.is_file()]
    assert not [data for data in [said.encode(), *files] if s3_module.SECRET.encode() in data]


class TestFolder:
    """The same by file://, which needs no server."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        pytest.importorskip("fsspec")
        made = tmp_path / "mnt"
        made.mkdir()
        return made

    def test_a_second_clone_fetches_side_by_side(self, place: Path, right: dict[str, str], tmp_path: Path) -> None:
        clone(tmp_path / "first", place.as_uri(), write=True).doit("-n", "3")
        second = clone(tmp_path / "second", place.as_uri())
        assert fetched(second.doit("-n", "3")) == NAMES - {"clock"}
        assert contents(second) == right and not list(place.rglob("*.part"))

    @pytest.mark.parametrize("who", ["reader", "writer"])
    def test_whenever_it_is_killed_nothing_is_half_made(
        self, who: str, place: Path, right: dict[str, str], tmp_path: Path
    ) -> None:
        """At every file that appears in the store, or on its way from there, a death."""
        if who == "reader":
            clone(tmp_path / "first", place.as_uri(), write=True).doit()
        killed = clone(tmp_path / "second", place.as_uri(), write=who == "writer")
        watched, seen = place if who == "writer" else killed.build, set[Path]()
        for _ in range(4):
            doit = killed.start("-n", "2")
            while doit.poll() is None:
                now = {Path(folder, name) for folder, _, names in os.walk(watched) for name in names}
                if now - seen:
                    os.killpg(doit.pid, signal.SIGKILL)
                seen |= now
            doit.communicate()
            assert "damaged" not in killed.doit("check")
        assert "shared store file" not in killed.doit() and contents(killed) == right
        third = clone(tmp_path / "third", place.as_uri())
        said = third.doit()
        assert contents(third) == right and "shared store file" not in said
        assert who == "writer" or fetched(said) == NAMES - {"clock"}

    def test_a_share_that_is_not_mounted_is_not_made(self, tmp_path: Path) -> None:
        said = clone(tmp_path / "first", (tmp_path / "mnt").as_uri(), write=True).doit()
        assert "mount it" in said and said.count("shared store") == 1 and not (tmp_path / "mnt").exists()

    def test_whoever_may_only_read_is_told_of_an_empty_store(self, place: Path, tmp_path: Path) -> None:
        said = clone(tmp_path / "first", place.as_uri()).doit()
        assert "holds nothing yet" in said and not list(place.iterdir())

    def test_others_own_files_are_not_guessed(self, place: Path, tmp_path: Path) -> None:
        """A link to what is on one machine is not restored from a store where that content is not there."""
        clone(tmp_path / "first", place.as_uri(), write=True).doit()
        [kept] = [path for path in (place / "v1/artifacts").rglob("*.json") if b'"link": true' in path.read_bytes()]
        value = json.loads(kept.read_text())
        for file in value["body"]["files"].values():
            file["blake3"] = "0" * 64
        value["blake3"] = digest_bytes(json.dumps(value["body"], sort_keys=True).encode())
        kept.write_text(json.dumps(value, sort_keys=True))
        second = clone(tmp_path / "second", place.as_uri())
        assert "refer                        built in" in second.doit()

    def test_nothing_is_written_outside(self, place: Path, tmp_path: Path) -> None:
        clone(tmp_path / "first", place.as_uri(), write=True).doit()
        for kept in (place / "v1/artifacts").rglob("*.json"):
            value = json.loads(kept.read_text())
            files = value["body"]["files"]
            value["body"]["files"] = {f"../../../evil-{name}": file for name, file in files.items()}
            value["blake3"] = digest_bytes(json.dumps(value["body"], sort_keys=True).encode())
            kept.write_text(json.dumps(value, sort_keys=True))
        second = clone(tmp_path / "second", place.as_uri())
        said = second.doit()
        assert "no path inside a folder" in said and fetched(said) == set()
        assert not list(tmp_path.rglob("evil-*"))

    def test_files_that_are_not_those_of_their_manifest_are_built_here(self, place: Path, tmp_path: Path) -> None:
        clone(tmp_path / "first", place.as_uri(), write=True).doit()
        for kept in (place / "v1/artifacts").rglob("*.json"):
            value = json.loads(kept.read_text())
            for file in value["body"]["files"].values():
                file["size"] = 0
            value["blake3"] = digest_bytes(json.dumps(value["body"], sort_keys=True).encode())
            kept.write_text(json.dumps(value, sort_keys=True))
        second = clone(tmp_path / "second", place.as_uri())
        said = second.doit()
        assert "not those of its manifest" in said and fetched(said) == set()
        assert second.built() == set()

    def test_gc_keeps_what_is_in_use_and_what_may_be_on_its_way(self, place: Path, tmp_path: Path) -> None:
        first = clone(tmp_path / "first", place.as_uri(), write=True)
        first.doit()
        first.write("src/a/x.txt", "another text")
        first.doit()
        artifacts, blobs = (set((place / "v1" / name).rglob("*")) for name in ("artifacts", "blobs"))
        said = first.doit("gc", "--shared", "0")
        left = set((place / "v1/artifacts").rglob("*.json"))
        assert left < artifacts and "removed" in said and str(place) in said
        assert set((place / "v1/blobs").rglob("*")) == blobs, "young ones may be of an artifact on its way"
        old = time.time() - 2 * 86400
        cut = place / "v1/artifacts/aa/key.json.123.part"  # of somebody who was killed
        cut.parent.mkdir(exist_ok=True)
        cut.write_text("{")
        for path in (*blobs, cut):
            os.utime(path, (old, old))
        first.doit("gc", "--shared", "0")
        assert len({p for p in (place / "v1/blobs").rglob("*") if p.is_file()}) < len(
            {p for p in blobs if p.suffix == ""}
        )
        second = clone(tmp_path / "second", place.as_uri())
        second.write("src/a/x.txt", "another text")
        assert fetched(second.doit()) == NAMES - {"clock"}

    def test_gc_of_a_store_that_is_not_ours_to_write_is_refused(self, place: Path, tmp_path: Path) -> None:
        said = clone(tmp_path / "first", place.as_uri()).doit("gc", "--shared", "0", code=3)
        assert "does not let this machine write" in said

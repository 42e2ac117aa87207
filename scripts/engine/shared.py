"""The shared store of a team: finished artifacts by key in a place that all reach, behind the local store.

    v1/store.json                 that this is one, and of which version
    v1/artifacts/<aa>/<key>.json  an artifact: its files by path, size and BLAKE3; written last
    v1/blobs/<aa>/<BLAKE3>        the content of a file, once

It is there to save time. Whatever is wrong with it is one line, and the build goes on as if there were none: a place
that can't be used is left alone for the rest of the run, an artifact that is not what it should be is built here. The
user's own files never go there: of an artifact that links to them, or has copies, the store knows their digests, and
whoever has the same files gets the same artifact.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.common import manifest
from scripts.common.json_values import parse
from scripts.common.secrets import redacted
from scripts.engine import listed, tree
from scripts.engine.digests import Digests
from scripts.engine.fetching import Fetching, blob
from scripts.engine.listed import File, Listed, LyingError
from scripts.engine.remote import SLOWEST, Remote, RemoteError, TooShortError

MARK = "v1/store.json"
#: A fetch may take so long, in seconds, or so many times what the build took where it was made: else it is given up.
PATIENCE, TIMES = 60.0, 4.0
#: So many artifacts that are not what they should be, and the store is left alone.
_FORGIVEN = 3
#: Files from this size on are taken from what is here already, where it is.
_LARGE = 1 << 20
_KEPT_FREE = 256 << 20


class NotHereError(Exception):
    """An artifact links to files of the user's that are not here, or are not to leave this machine."""


def artifact(key: str) -> str:
    """Where a store has what is in the artifact of this key."""
    return f"v1/artifacts/{key[:2]}/{key}.json"


def _blobs(folder: Path) -> Path:
    """Where the contents of an artifact are brought, before its files are made of them in `folder`."""
    return folder.with_name(f"{folder.name}.blobs")


class _End:
    """When an upload of so many bytes is given up: a store that crawls must not hold up the build."""

    def __init__(self, size: int) -> None:
        self._what = f"takes longer than it may for {size / 1e6:.0f} MB"
        self._seconds = PATIENCE + size / SLOWEST
        self._end = time.monotonic() + self._seconds

    def left(self) -> float:
        """The seconds that are left. Raises `RemoteError` where none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise RemoteError(f"{self._what} ({self._seconds:.0f} s)")
        return left


class Shared:
    """The shared store of one session; asks nothing before a step has to be built, and raises nothing."""

    def __init__(self, url: str, build: Path, digests: Digests, note: Callable[[str], None], *, writes: bool) -> None:
        self.remote, self.writes = Remote(url), writes
        self._build, self._digests, self._note = build, digests, note
        self._stopped = self._marked = False
        self._harmed: set[str] = set()

    def fetch(
        self, key: str, folder: Path, own: Mapping[str, str], near: Mapping[str, str], said: Callable[[str], None]
    ) -> manifest.Files | None:
        """Make `folder` the artifact of this key; its files, or None where there is none that can be had.

        `own`: digest → path of the user's own inputs; `near`: of files of other artifacts here, which are linked.
        """
        if self._stopped:
            return None
        try:
            found = self._listed(key)
            if found is None:
                return None
            self._place(found, folder, own, near, said)
            return found.contents
        except NotHereError:
            pass
        except LyingError as error:
            self._harmed.add(key)
            self._warn(f"has no sound artifact {key[:12]}…: {error}", stop=len(self._harmed) >= _FORGIVEN)
        except RemoteError as error:
            self._warn(str(error), stop=True)
        except OSError as error:
            self._warn(f"could not be copied from: {error.filename or folder}: {error.strerror or error}", stop=False)
        for left in (folder, _blobs(folder)):
            tree.remove(str(left), self._digests)
        return None

    def has(self, key: str) -> bool:
        """Whether there is such an artifact; no answer is none."""
        try:
            return not self._stopped and self.remote.size(artifact(key)) is not None
        except RemoteError as error:
            self._warn(str(error), stop=True)
            return False

    def upload(self, key: str, folder: Path, own: Mapping[str, str], seconds: float) -> None:
        """Put an artifact there, blobs first; nothing of it that is among the digests of the user's `own`."""
        if self._stopped or not self.writes:
            return
        try:
            files, paths = self._content(folder, own)
            text = listed.dumps(Listed(key, files, seconds))
            made = listed.loads(text, key)  # what others would refuse stays here
            self._mark()
            end = _End(sum(made.blobs.values()))
            for digest, size in made.blobs.items():
                self._upload_blob(digest, size, paths[digest], end, again=key in self._harmed)
            self.remote.write(artifact(key), text)
            for digest, size in made.blobs.items():  # `gc` may have taken one away, not knowing of this artifact
                self._upload_blob(digest, size, paths[digest], end, again=False)
        except (NotHereError, LyingError):
            return
        except OSError as error:
            self._warn(f"was not given {error.filename or folder}: {error.strerror or error}", stop=False)
        except RemoteError as error:
            self._warn(f"{error}; nothing more is put there", stop=True)

    def _listed(self, key: str) -> Listed | None:
        if not self._marked:
            self._look()
        try:
            data = self.remote.read(artifact(key), 0, listed.MOST + 1) if self._marked else None
        except TooShortError:
            raise LyingError("its manifest is empty") from None
        return listed.loads(data, key) if data is not None else None

    def _look(self) -> None:
        """See whether this is a store, once; where it is none, there is nothing to fetch."""
        try:
            data = self.remote.read(MARK, 0, 1000)
            version = None if data is None else parse(data.decode()).get("version")
        except (TooShortError, ValueError, AttributeError):
            raise RemoteError(f"{MARK} there is not what Ingot writes") from None
        if data is None and not self.writes:
            self._warn("holds nothing yet", stop=True)
        elif data is not None and version != listed.VERSION:
            raise RemoteError("is of another version of Ingot")
        self._marked = data is not None

    def _mark(self) -> None:
        if not self._marked:
            self._look()
        if not self._marked:
            self.remote.write(MARK, json.dumps({"version": listed.VERSION}).encode())
            self._marked = True

    def _place(
        self, found: Listed, folder: Path, own: Mapping[str, str], near: Mapping[str, str], said: Callable[[str], None]
    ) -> None:
        if any(file.own and file.digest not in own for file in found.files.values()):
            raise NotHereError
        here = {digest: path for digest, path in near.items() if found.blobs.get(digest, 0) >= _LARGE}
        wanted = {digest: size for digest, size in found.blobs.items() if digest not in here}
        total, got = sum(wanted.values()), 0
        if total > shutil.disk_usage(self._build).free - _KEPT_FREE:
            raise OSError(errno.ENOSPC, f"has no room for {total / 1e9:.1f} GB from the shared store", str(self._build))

        def count(more: int) -> None:
            nonlocal got
            got += more
            said(f"fetching {got / 1e6:.0f} of {total / 1e6:.0f} MB from the shared store")

        work = _blobs(folder)
        work.mkdir()
        fetching = Fetching(self.remote, self._build, self._digests, max(PATIENCE, TIMES * found.seconds), count)
        fetched = {digest: str(path) for digest, path in fetching.bring(wanted, work).items()}
        folder.mkdir()
        for name, file in found.files.items():
            self._put(file, folder / name, own, {**here, **fetched})
        tree.remove(str(work), self._digests)
        if manifest.differences(found.contents, manifest.scan(str(folder), self._digests.of)):
            raise LyingError("its files are not those of its manifest")

    def _put(self, file: File, target: Path, own: Mapping[str, str], blobs: Mapping[str, str]) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.own and self._digests.of(own[file.digest]) != file.digest:  # it was edited just now
            raise NotHereError
        if file.own and file.link:
            path = Path(own[file.digest])
            target.symlink_to(path.parent.resolve() / path.name)
        elif file.own:
            shutil.copyfile(own[file.digest], target)
        elif not file.size:
            target.touch(exist_ok=False)
        elif file.size >= _LARGE:
            tree.link(blobs[file.digest], str(target), self._digests)
        else:
            shutil.copyfile(blobs[file.digest], target)

    def _content(self, folder: Path, own: Mapping[str, str]) -> tuple[dict[str, File], dict[str, str]]:
        """The files of an artifact here, and digest → path. Raises `NotHereError` where one may not leave."""
        files, paths = dict[str, File](), dict[str, str]()
        outside = os.path.realpath(self._build)
        for name, entry in manifest.scan(str(folder), self._digests.of, follow=False).items():
            path = f"{folder}/{name}"
            link, digest = os.path.islink(path), str(entry["blake3"])
            if link and digest not in own and not os.path.realpath(path).startswith(outside + os.sep):
                raise NotHereError
            files[name] = File(int(entry["size"]), digest, digest in own, link and digest in own)
            paths[digest] = path
        return files, paths

    def _upload_blob(self, digest: str, size: int, path: str, end: _End, *, again: bool) -> None:
        if not again and self.remote.size(blob(digest)) == size:
            return
        if self._digests.of(path) != digest:
            raise NotHereError
        self.remote.upload(blob(digest), path, end.left())
        if self.remote.size(blob(digest)) != size:
            raise RemoteError("keeps other than what is put there")

    def _warn(self, text: str, *, stop: bool) -> None:
        if not self._stopped:
            self._stopped = stop
            self._note(redacted(f"shared store {self.remote.url}: {text}" + ("; going on without it" if stop else "")))

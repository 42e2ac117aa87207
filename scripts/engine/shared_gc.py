"""Making a shared store smaller: the artifacts that were put there first go first, then the blobs that none needs.

An artifact goes before its blobs, so a reader never sees half of one. A blob that no artifact names may be one of an
artifact that is just being put there: it stays for a day, by the clock of the place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

from scripts.engine import listed
from scripts.engine.listed import Listed, LyingError
from scripts.engine.remote import Remote, RemoteError, TooShortError
from scripts.engine.shared import artifact

#: How long what no artifact names may be on its way into one, in seconds.
GRACE = 86_400.0


@dataclass(frozen=True)
class Collected:
    """How many artifacts and bytes went, and how many are left."""

    gone: int
    gone_bytes: int
    left: int
    left_bytes: int


def collect(remote: Remote, keep_bytes: int, in_use: Collection[str]) -> Collected:
    """Remove the oldest artifacts that are not of a key in use, until the rest need at most so many bytes.

    What is damaged goes as well. Raises `RemoteError`.
    """
    blobs = remote.listing("v1/blobs")
    sizes = {name.rpartition("/")[2]: size for name, (size, _) in blobs.items()}
    found = _artifacts(remote)
    oldest = sorted((changed, key) for key, (changed, _) in found.items())
    needed = dict[str, int]()
    for _, made in found.values():
        for digest in made.blobs if made else ():
            needed[digest] = needed.get(digest, 0) + 1
    total, gone = sum(sizes.get(digest, 0) for digest in needed), list[str]()
    for _, key in oldest:
        made = found[key][1]
        if made is not None and (total <= keep_bytes or key in in_use):
            continue
        gone.append(key)
        for digest in made.blobs if made else ():
            needed[digest] -= 1
            total -= 0 if needed[digest] else sizes.get(digest, 0)
    remote.remove(map(artifact, gone))
    # What was put there meanwhile may need a blob of those that went.
    for _, made in _artifacts(remote, known={*found}).values():
        needed.update(dict.fromkeys(made.blobs if made else (), 1))
    limit = _clock(remote) - GRACE
    unneeded = {n: size for n, (size, at) in blobs.items() if not needed.get(n.rpartition("/")[2]) and at < limit}
    cut_short = [n for n, (_, at) in remote.listing("v1/artifacts").items() if n.endswith(".part") and at < limit]
    remote.remove([*unneeded, *cut_short])
    left = sum(size for size, _ in blobs.values()) - sum(unneeded.values())
    return Collected(len(gone), sum(unneeded.values()), len(found) - len(gone), left)


def _artifacts(remote: Remote, known: Collection[str] = ()) -> dict[str, tuple[float, Listed | None]]:
    """Key → when it was put there, and the artifact; None where that is damaged. Not of those that are known."""
    found = dict[str, tuple[float, Listed | None]]()
    for name, (_, changed) in remote.listing("v1/artifacts").items():
        key = name.rpartition("/")[2].removesuffix(".json")
        if name != artifact(key) or key in known:
            continue
        try:
            data = remote.read(name, 0, listed.MOST + 1)
            found[key] = changed, listed.loads(data or b"", key)
        except (LyingError, TooShortError):
            found[key] = changed, None
    return found


def _clock(remote: Remote) -> float:
    """The time by the place's own clock, in seconds: it may differ from the clock here. Raises `RemoteError`."""
    name = f"v1/clock/{os.getpid()}"
    remote.write(name, str(time.time()).encode())
    found = remote.listing("v1/clock").get(name)
    remote.remove([name])
    if found is None:
        raise RemoteError("does not show what was just put there")
    return found[1]

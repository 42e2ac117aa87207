"""What a worker of a cluster does with a job: have what the step reads, run its child, put the output into the store.

    job ──► same code, same tools? ──► inputs by the shared store ──► the child, as on one machine ──► the shared store

The job comes from `scripts.engine.away`. Nothing is believed of what is brought before its digest was seen, and an
output appears in the store as any does: its manifest last. Whatever ends this process, and whenever, there is all of it
or none.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scripts.common import machine, manifest, tools
from scripts.common.hashes import digest_bytes
from scripts.common.process import Limits, run
from scripts.engine import brought, locks, publish, tree
from scripts.engine.digests import Digests
from scripts.engine.endings import why_failed
from scripts.engine.environment import environment_apart, private_to
from scripts.engine.shared import Shared
from scripts.engine.sources import Sources
from scripts.engine.state import State

#: Bytes of a log's end that go back.
_LOG = 1 << 20


class NotToBeHadError(Exception):
    """Something that the step reads can't be had on this machine."""


class UnstoredError(Exception):
    """What the step made is not in the shared store."""


def describe() -> dict[str, Any]:
    """What tells whether this machine is one for a step."""
    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}", "processor": machine.instruction_set(),
        "machine": machine.fingerprint(),
    }  # fmt: skip


class Workplace:
    """The folder of one worker: what it was brought stays there for the next job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / publish.WORK).mkdir(exist_ok=True)
        self.state = State(folder / "state.db")
        self.digests = Digests(self.state)
        self.brought = brought.Brought(folder, ("inputs", "own"), brought.limit_of(folder), self.digests)
        self._bringing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def build(self, job: Mapping[str, Any], is_wanted: Callable[[], bool]) -> dict[str, Any]:
        """Run a job.

        Returns either {"refused": names of what differs here}, {"missing": what can't be had}, {"unstored": why what
        was made is not in the shared store}, or how it went: {"reason" (None: well), "seconds", "peak_rss", "log",
        "result": bytes of a result, else None}.
        """
        if differing := self._differing(job):
            return {"refused": differing}
        notes: list[str] = []
        store = Shared(job["store"], self.folder, self.digests, notes.append, writes=True)
        reads = [f"own/{digest}" for digest in job["own"]]
        reads += [f"inputs/{one['key']}" for one in job["brought"].values() if "key" in one]
        try:
            with self.brought.using(reads), publish.workspace(self.folder, job["step"], self.digests) as work:
                own = self._own(job)
                places = {mark: self._bring(one, work, store, own) for mark, one in job["brought"].items()}
                return self._run(job, work, places, store, own, is_wanted)
        except NotToBeHadError as error:
            return {"missing": "; ".join([str(error), *notes])}
        except UnstoredError as error:
            return {"unstored": "; ".join([str(error), *notes])}

    def _run(
        self, job: Mapping[str, Any], work: Path, places: Mapping[str, str], store: Shared, own: Mapping[str, str],
        is_wanted: Callable[[], bool],
    ) -> dict[str, Any]:  # fmt: skip
        out, log = work / job["name"], work / "log"
        words = [places.get(word, word) for word in job["words"]]
        words[-1] = str(out)
        command = [sys.executable, "-m", f"{job['package']}.{job['stage']}", *words]
        limits = Limits(job["seconds"], job["memory_bytes"], job["setting"])
        env = environment_apart(work / "home") | private_to(work)
        with (
            locks.measurement(job["step"], self.folder, alone=job["alone"], note=lambda _: None),
            self.digests.journal(work / "links.jsonl"),
        ):
            ended = run(command, log=log, limits=limits, env=env, on_line=lambda _: None, is_wanted=is_wanted)
        what = f"{job['stage']} {job['verb']}"
        reason = ended.broke or why_failed(self.folder, what, work, ended.code, out)
        if not reason and not job["is_result"]:
            store.upload(job["key"], out, {digest: own[digest] for digest in job["own_of_step"]}, ended.seconds)
            if not store.has(job["key"]):
                raise UnstoredError("what was made can't be put into the shared store")
        said = log.read_bytes()[-_LOG:].decode("utf-8", "replace")
        for mark, place in places.items():  # as it would be told where the job came from
            there = str(job["brought"][mark].get("path", place))
            reason, said = reason and reason.replace(place, there), said.replace(place, there)
        result = out.read_bytes() if job["is_result"] and not reason else None
        return {"reason": reason, "seconds": ended.seconds, "peak_rss": ended.peak_rss, "log": said, "result": result}

    def _differing(self, job: Mapping[str, Any]) -> list[str]:
        """The modules and tools that would act here, and are not those that act where the job comes from."""
        closure = Sources(self.state, job["package"]).of(job["stage"], job["verb"], tuple(job["loads"]))
        here = closure.tools | {name: tools.installed(name) for name in job["tools"].keys() - closure.tools.keys()}
        named = sorted(here.keys() | job["tools"].keys())
        found = [f"{name} {here.get(name)}, not {job['tools'].get(name)}" for name in named
                 if here.get(name) != job["tools"].get(name)]  # fmt: skip
        modules = closure.modules.keys() | job["sources"].keys()
        return found + sorted(name for name in modules if closure.modules.get(name) != job["sources"].get(name))

    def _own(self, job: Mapping[str, Any]) -> dict[str, str]:
        """Digest → path here of the user's own files: of those that came along, and those that are at the same path."""
        found: dict[str, str] = {}
        for digest, (path, data) in job["own"].items():
            here = Path(path)
            if data is not None:
                here = self.folder / "own" / digest / here.name
                with self._bringing[digest]:
                    if not here.is_file():
                        if digest_bytes(data) != digest:
                            raise NotToBeHadError(f"{path} came changed")
                        here.parent.mkdir(parents=True, exist_ok=True)
                        here.with_name("part").write_bytes(data)
                        here.with_name("part").replace(here)
            try:
                if self.digests.of(str(here)) == digest:
                    found[digest] = str(here)
            except OSError:
                continue
        return found

    def _bring(self, one: Mapping[str, Any], work: Path, store: Shared, own: Mapping[str, str]) -> str:
        """Where something that the step reads is on this machine."""
        if "scratch" in one:
            return str(work / "scratch" / one["scratch"])
        if "key" in one:
            return self._artifact(one["key"], Path(one["path"]).name, store, own)
        folder = work / f"input-{len(list(work.iterdir()))}" / Path(one["path"]).name
        folder.parent.mkdir()
        if "result" in one:
            folder.write_bytes(one["result"])
            return str(folder)
        for name, digest in one["files"].items():
            if digest not in own:
                raise NotToBeHadError(f"{one['path']} is not on this machine, or is another file here")
            link = folder / name if name else folder
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(own[digest])
        return str(folder)

    def _artifact(self, key: str, name: str, store: Shared, own: Mapping[str, str]) -> str:
        folder = self.folder / "inputs" / key / name
        with self._bringing[key]:
            if not self._is_whole(folder):
                tree.remove(str(folder), self.digests)
                folder.parent.mkdir(parents=True, exist_ok=True)
                with publish.workspace(self.folder, "bring", self.digests) as work:
                    files = store.fetch(key, work / name, own, {}, lambda _: None)
                    if files is None:
                        raise NotToBeHadError(f"the shared store has no {name} of key {key[:12]}… for this machine")
                    manifest.write(work / name, files, {"key": key})
                    (work / name).rename(folder)
        return str(folder)

    def _is_whole(self, folder: Path) -> bool:
        listed = manifest.read(str(folder))
        try:
            return listed is not None and not manifest.differences(
                listed[0], manifest.scan(str(folder), self.digests.of)
            )
        except OSError:  # it links to what was removed since
            return False

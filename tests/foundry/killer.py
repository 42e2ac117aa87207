"""Run an action on a cache again and again, each time ending it one step later, and look at what is left.

    python -m tests.foundry.killer HOW deploy|undeploy|rollback CACHE OLD-PACKAGE NEW-PACKAGE START STRIDE

START is what the cache holds before: "empty", "old" (version 1), "two" (both), "back" (both, the second taken back),
"torn" (version 1, one file missing). STRIDE is 1 to end it before every step, more to leave steps out.

In a process of its own, from which each attempt is forked: it has loaded the runtime's library and never opened it,
so that the fork is safe, and an attempt starts at once. A step is whatever changes a file in the cache, as Python's
audit events tell, and each change of the registrations. HOW is "kill"; "fail" for a disk that is full; "moved" to kill
where folders can't change places in one step; "twice" to kill the next one, too, at each of its steps.
Prints one JSON object: {"attempts", "wrong": [what was not right]}.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.common import folders, hashes, manifest
from scripts.common.errors import IngotError
from scripts.foundry import cache as caches
from scripts.foundry import deploy as stage
from scripts.foundry import marks, versions
from scripts.runtime.foundry import Runtime
from tests.served import MODEL_ID

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
OVER = 5  # exit status of an attempt that had fewer steps
NAME = MODEL_ID.rpartition(":")[0]
SECOND = f"{NAME}:2"
#: What a kill leaves of a small file of Ingot's own that was being written: no runtime looks at it.
UNWRITTEN = re.compile(r"\.manifest\.json\.\d+\.tmp does not belong there")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def forked(action: Callable[[], object]) -> int:
    """Run `action` in a fork; its exit status: 0 done, 3 an error for the user, 4 another one, -9 killed."""
    pid = os.fork()
    if pid == 0:
        status = 4
        try:
            import foundry_local_sdk

            foundry_local_sdk.FoundryLocalManager.close = lambda _: None  # a second that an attempt need not wait
            action()
            status = 0
        except IngotError:
            status = 3
        except BaseException:  # noqa: BLE001 - a fork must not return into its parent's code
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def interrupted(action: Callable[[], object], at: int, cache: Path, how: str) -> Callable[[], object]:
    """`action`, ended before its step number `at` (from 1)."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == at:
            if how != "fail":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(cache))

    def watch(event: str, args: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITING)
        if changes and any(isinstance(a, str | os.PathLike) and str(a).startswith(str(cache)) for a in args):
            step()

    def noted(change: Callable[..., None]) -> Callable[..., None]:
        def both(*args: Any, **options: Any) -> None:
            step()
            change(*args, **options)
            step()

        return both

    def run() -> None:
        Runtime.register = noted(Runtime.register)  # type: ignore[method-assign]
        Runtime.unregister = noted(Runtime.unregister)  # type: ignore[method-assign]
        sys.addaudithook(watch)
        action()
        if count < at:
            os._exit(OVER)

    return run


def half(cache: Path) -> list[str]:
    """What a runtime would list that is not whole, or not what its id says: by registration, or by scanning."""
    registered = {path: model_id for model_id, path in caches.registrations(cache).items() if path.is_dir()}
    scanned = [path.parent for path in cache.rglob(caches.MARKER) if (path.parent / caches.SETTINGS).is_file()]
    wrong = []
    for folder in {*registered, *scanned}:
        files = caches.manifest_of(folder) if (folder / caches.MARKER).is_file() else listed(folder)
        files = {name: file for name, file in files.items() if name != caches.MARKER}
        found = [line for line in caches.differences(folder, files)
                 if not line.startswith(caches.MARKER) and not UNWRITTEN.match(line)]  # fmt: skip
        name = caches.marked_name(folder / caches.MARKER)
        if found or {name, registered.get(folder)} - {None, marks.owner(folder)}:
            wrong.append(f"{folder.name} is listed and half: {found}, {name}, {registered.get(folder)}")
    return wrong


def listed(folder: Path) -> manifest.Files:
    found = manifest.load(str(folder))
    assert found
    files: manifest.Files = found["files"]
    return files


def main(how: str, verb: str, cache: Path, old: Path, new: Path, start: str, stride: int) -> dict[str, Any]:
    """Every attempt, until one goes through."""
    import foundry_local_sdk  # noqa: F401 - loaded once, opened only in forks

    # Hashing with threads would start a pool here, which no fork inherits: it would wait for ever.
    hashes._LARGE = 1 << 62

    if how == "moved":
        folders.exchange = lambda *_: False
    saved = cache.with_name("saved")
    if start == "empty":
        cache.mkdir(parents=True)
    else:
        assert forked(lambda: stage.deploy(old, MODEL_ID, cache)) == 0
    if start in ("two", "back"):
        assert forked(lambda: stage.deploy(new, MODEL_ID, cache)) == 0
    if start == "back":
        assert forked(lambda: versions.rollback(cache, NAME, 1)) == 0
    if start == "torn":
        (caches.home_of(cache, MODEL_ID) / "tokenizer.json").unlink()
    shutil.copytree(cache, saved)
    actions: dict[str, Callable[[], object]] = {
        "deploy": lambda: stage.deploy(old if start == "torn" else new, MODEL_ID, cache),
        "undeploy": lambda: stage.undeploy(SECOND if start == "two" else MODEL_ID, cache),
        "rollback": lambda: versions.rollback(cache, NAME, 2 if start == "back" else 1),
    }
    action = actions[verb]

    def attempt(number: int) -> int:
        shutil.rmtree(cache)
        shutil.copytree(saved, cache)
        return forked(interrupted(action, number, cache, how))

    wrong: list[str] = []
    kills = 0

    def look(told: str, status: int) -> None:
        """What is wrong after an attempt that was ended."""
        # An error that stops nothing, such as a folder that cannot be made but is there, is well too.
        if status not in ((-signal.SIGKILL,) if how != "fail" else (0, 3)):
            wrong.append(f"{told}: ended with {status}")
        if start != "torn":
            wrong.extend(f"{told}: {line}" for line in half(cache))
        if start in ("two", "back") and MODEL_ID not in caches.registrations(cache):
            wrong.append(f"{told}: the version that was whole all the time is not listed")

    def finish(told: str) -> None:
        """What is wrong after the next one, which nothing ends."""
        if (status := forked(action)) != 0:
            wrong.append(f"{told}: the next one ended with {status}")
        wrong.extend(f"{told}, then done: {line}" for line in unfinished(cache, verb, start))

    for number in range(1, 400, stride):
        if (status := attempt(number)) == OVER:
            break
        kills += 1
        look(f"{number}", status)
        finish(f"{number}")
        for again in range(1, 400) if how == "twice" else ():
            attempt(number)
            if (status := forked(interrupted(action, again, cache, how))) == OVER:
                break
            kills += 2
            look(f"{number}, {again}", status)
            finish(f"{number}, {again}")
    return {"attempts": kills, "wrong": wrong}


def unfinished(cache: Path, verb: str, start: str) -> list[str]:
    """How the cache differs from one in which nothing went wrong."""
    first, second = caches.home_of(cache, MODEL_ID), caches.home_of(cache, SECOND)
    there = {
        ("deploy", "empty"): [first], ("deploy", "old"): [first, second], ("deploy", "torn"): [first],
        ("undeploy", "old"): [], ("undeploy", "two"): [first],
        ("rollback", "two"): [first, second], ("rollback", "back"): [first, second],
    }[verb, start]  # fmt: skip
    served = [first] if (verb, start) == ("rollback", "two") else there
    left = [str(path) for path in first.parent.rglob(".*.tmp")]
    names = {path.name for path in first.parent.iterdir()} ^ {".lock", *(folder.name for folder in there)}
    found = [*left, *(f"{name} should not be there" for name in names)]
    for folder in served:
        found += caches.differences(folder, listed(folder))
    if set(caches.registrations(cache).values()) != set(served):
        found.append(f"registered: {caches.registrations(cache)}")
    return [*found, *half(cache)]


if __name__ == "__main__":
    how, verb, cache, old, new, start, stride = sys.argv[1:]
    result = main(how, verb, Path(cache), Path(old), Path(new), start, int(stride))
    print("\n" + json.dumps(result), flush=True)

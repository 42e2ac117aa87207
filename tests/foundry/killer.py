"""Run an action on a cache again and again, each time ending it one step later, and look at what is left.

    python -m tests.foundry.killer kill|fail|moved  deploy|undeploy  CACHE OLD-PACKAGE NEW-PACKAGE [START]

In a process of its own, from which each attempt is forked: it has loaded the runtime's library and never opened it,
so that the fork is safe, and an attempt starts at once. A step is whatever changes a file in the cache, as Python's
audit events tell, and each change of the registrations. "moved" kills where folders can't change places in one step.
Prints one JSON object: {"attempts", "wrong": [what was not right]}.
"""

from __future__ import annotations

import errno
import json
import os
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
from scripts.runtime.foundry import Runtime
from tests.served import MODEL_ID

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
OVER = 5  # exit status of an attempt that had fewer steps
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


def half(cache: Path, known: list[manifest.Files]) -> list[str]:
    """What a runtime would list that is not whole: by registration, or by scanning."""
    seen = [path for path in caches.registrations(cache).values() if path.is_dir()]
    seen += [path.parent for path in cache.rglob(caches.MARKER) if (path.parent / caches.SETTINGS).is_file()]
    wrong = []
    for folder in seen:
        without = [{name: file for name, file in files.items() if name != caches.MARKER} for files in known]
        if all(caches.differences(folder, files) for files in [*known, *without]):
            wrong.append(f"{folder.name} is listed and half")
    return wrong


def main(how: str, verb: str, cache: Path, old: Path, new: Path, start: str) -> dict[str, Any]:
    """Every attempt, until one goes through."""
    import foundry_local_sdk  # noqa: F401 - loaded once, opened only in forks

    # Hashing with threads would start a pool here, which no fork inherits: it would wait for ever.
    hashes._LARGE = 1 << 62

    if how == "moved":
        folders.exchange = lambda *_: False
    files = {"old": caches.manifest_of(old), "new": caches.manifest_of(new)}
    saved = cache.with_name("saved")
    if start == "old":
        assert forked(lambda: stage.deploy(old, MODEL_ID, cache)) == 0
    else:
        cache.mkdir(parents=True)
    shutil.copytree(cache, saved)

    def action() -> object:
        return stage.deploy(new, MODEL_ID, cache) if verb == "deploy" else stage.undeploy(MODEL_ID, cache)

    wrong: list[str] = []
    for attempt in range(1, 200):
        shutil.rmtree(cache)
        shutil.copytree(saved, cache)
        status = forked(interrupted(action, attempt, cache, how))
        if status == OVER:
            break
        # An error that stops nothing, such as a folder that cannot be made but is there, is well too.
        if status not in ((-signal.SIGKILL,) if how != "fail" else (0, 3)):
            wrong.append(f"{attempt}: ended with {status}")
        wrong += [f"{attempt}: {line}" for line in half(cache, list(files.values()))]
        if (status := forked(action)) != 0:
            wrong.append(f"{attempt}: the next one ended with {status}")
        wrong += [f"{attempt}, then done: {line}" for line in unfinished(cache, verb, files["new"])]
    return {"attempts": attempt - 1, "wrong": wrong}


def unfinished(cache: Path, verb: str, files: manifest.Files) -> list[str]:
    """How the cache differs from one in which nothing went wrong."""
    folder = caches.home_of(cache, MODEL_ID)
    expected = {".lock", folder.name} if verb == "deploy" else {".lock"}
    found = [f"{name} should not be there" for name in {p.name for p in folder.parent.iterdir()} ^ expected]
    if verb == "deploy":
        found += caches.differences(folder, files)
    if caches.registrations(cache) != ({MODEL_ID: folder} if verb == "deploy" else {}):
        found.append(f"registered: {caches.registrations(cache)}")
    return found


if __name__ == "__main__":
    how, verb, cache, old, new, start = sys.argv[1:]
    result = main(how, verb, Path(cache), Path(old), Path(new), start)
    print("\n" + json.dumps(result), flush=True)

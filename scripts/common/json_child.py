"""A child that answers: one JSON object a line on its standard input, one on its standard output in reply.

Its standard input's end is its own, so it ends with its parent; on Linux also while it is busy, if it calls
`lifeline.hold` (the kernel then ends it with the *thread* that started it: start it from one that stays).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common import process
from scripts.common.childenv import LIFELINE

ROOT = Path(__file__).parents[2]
_DYING_SECONDS = 10.0


class NoReplyError(Exception):
    """The child gave no reply to a request."""


class ClosedError(NoReplyError):
    """It closed its output, most likely because it has ended."""


class SilentError(NoReplyError):
    """It did not reply in time, and was killed."""


class GarbledError(NoReplyError):
    """What it wrote is not a JSON object; the message is what it wrote."""


class JsonChild:
    """A child that was started to be asked; whoever starts it must `end` it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        without: Sequence[str] = (),
        errors: Path | None = None,
    ) -> None:
        """`env`, `without`: as for `process.start`; `errors`: a file for its standard error (else inherited)."""
        told = {**(env or {}), LIFELINE: str(os.getpid())}
        stderr = errors.open("wb") if errors else None
        try:
            self._process = process.start(
                command, leads=False, stdin=process.PIPE, stdout=process.PIPE, stderr=stderr, env=told,
                without=without, folder=ROOT,
            )  # fmt: skip
        finally:
            if stderr:
                stderr.close()
        self.pid = self._process.pid
        self._too_late = False

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The reply to a request. Raises `NoReplyError` where there is none within `seconds`."""
        assert self._process.stdin
        assert self._process.stdout
        watch = threading.Timer(seconds, self._give_up)  # to write may block, too
        watch.start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline().decode("utf-8", "replace")
        except OSError:
            line = ""
        finally:
            watch.cancel()
            watch.join()
        if self._too_late:
            raise SilentError(f"no reply in {seconds:.0f} s")
        if not line:
            raise ClosedError("it closed its output")
        try:
            reply = json.loads(line)
        except ValueError:
            raise GarbledError(line) from None
        if not isinstance(reply, dict):
            raise GarbledError(line)
        return reply

    def code(self, seconds: float = _DYING_SECONDS) -> int | None:
        """What it ended with, -N for signal N; None where it still lives after `seconds`."""
        return process.wait(self._process, seconds)

    def end(self, grace: float = 0.0) -> None:
        """Close its input, wait so many seconds for it to end by itself, then kill it; safe to call twice."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(OSError):  # something was still to be written, and nobody is there to read it
            self._process.stdin.close()
        if grace:
            self.code(grace)
        process.end_tree(self._process)
        self._process.stdout.close()

    def _give_up(self) -> None:
        self._too_late = True
        process.kill_tree(self._process)


def answer(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's half: answer each request of standard input by `handle`, until there are no more.

    What anything else prints, such as a native library, goes to standard error: it must not be taken for a reply.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(handle(json.loads(line))), file=replies, flush=True)

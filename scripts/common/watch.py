"""What a stranger's file has a process compute: within a time and a memory limit, told in one line where one is broken.

A chat template, a regular expression, a tokenizer, a schema or a config can take for ever, or all memory, or crash a
native library, while the interpreter is held and nothing in the process can act. So a stage does its work in a child,
notes there what it is about to compute (`computing`), and its parent watches (`over`): it ends the child where a limit
of the noted work is broken, or tells what it was at where it died by itself.

The child is a fork where the system can fork, and is started anew where it can't (Windows). Memory is polled; on Linux
the system refuses it as well, so that not even one great allocation gets through.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from scripts.common import lifeline, process
from scripts.common.childenv import LIFELINE, LIFELINE_PIPE, NOTES, REASON_FILE
from scripts.common.errors import IngotError
from scripts.common.tree_memory import tree_memory

#: Seconds of the processor and bytes for one thing; in all, the same thing may take `_TIMES` as long.
SECONDS, MEMORY = 10.0, 512 << 20
_TIMES = 3
#: What every limit of time is multiplied by. Tests that have one broken set it below 1, so as not to wait.
pace = 1.0
#: On a busy machine it may take so many times as long by the clock.
_BUSY = 10
_POLL, _GRACE = 0.05, 5.0
#: Bytes that the system still gives where memory is polled too: what a library sets aside and does not touch.
_SLACK = 256 << 20
_REMEDY = "A model that people use has no such file: see where it comes from"


@dataclass(frozen=True)
class _Note:
    """What is being computed, since when (`time.monotonic`; seconds of the processor), and the limits."""

    subject: str
    what: str
    began: float
    used: float
    seconds: float
    left: float
    memory: int
    most: int
    remedy: str
    so_far: bool

    def too_slow(self) -> IngotError:
        """It took longer than its limit, by itself or with what was like it before."""
        span = f"{_TIMES * self.seconds:.0f} s in all" if self.so_far else f"{self.seconds:.0f} s"
        return IngotError(self.subject, f"takes more than {span} {self.what}", self.remedy)

    def too_large(self) -> IngotError:
        """It took more memory than its limit."""
        return IngotError(self.subject, f"takes more than {self.memory >> 20} MiB of memory {self.what}", self.remedy)


class _Board:
    """A small file that parent and child share: the child's note."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def write(self, note: _Note | None) -> None:
        text = json.dumps(vars(note) if note else None).encode()
        _at(self.handle, len(text).to_bytes(4, "little") + text)

    def read(self) -> _Note | None:
        """The note; none where none is there, or it is being written."""
        os.lseek(self.handle, 0, os.SEEK_SET)
        data = os.read(self.handle, 1 << 16)
        with contextlib.suppress(ValueError, TypeError):
            if fields := json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")]):
                return _Note(**fields)
        return None


def _at(handle: int, data: bytes) -> None:
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, data)


_board: _Board | None = None
_current: _Note | None = None
_spent: dict[tuple[str, str], float] = {}


@contextlib.contextmanager
def computing(
    subject: object, what: str, *, seconds: float = SECONDS, memory: int = MEMORY, remedy: str = _REMEDY
) -> Iterator[None]:
    """Note what is computed of the file `subject` meanwhile, such as "to render it", and its limits.

    `memory` is what the process may take on beside what it has. Raises `IngotError` where memory is refused, where it
    is nested too deeply, and where a library in Rust panics; what else is broken, the parent ends and tells.
    """
    global _current
    seconds *= pace
    key, before, began, used = (str(subject), what), _current, time.monotonic(), time.process_time()
    left = max(0.0, _TIMES * seconds - _spent.get(key, 0.0))
    own = tree_memory(os.getpid())[1]
    _current = _Note(
        str(subject), what, began, used, seconds, min(seconds, left), memory, own + memory, remedy, left < seconds
    )
    _show(_current)
    try:
        with _refusing(memory):
            yield
    except MemoryError:
        raise _current.too_large() from None
    except RecursionError:
        raise IngotError(subject, f"is nested too deeply {what}", remedy) from None
    except BaseException as error:
        if "bad_alloc" in str(error):  # what a C++ library says of it
            raise _current.too_large() from None
        if type(error).__name__ != "PanicException":  # of pyo3, which is no `Exception`
            raise
        reason = " ".join(str(error).split())[:160]
        raise IngotError(subject, f"breaks the library that is {what} ({reason})", remedy) from None
    finally:
        _spent[key] = _spent.get(key, 0.0) + time.process_time() - used
        _current = before
        _show(before)


def _show(note: _Note | None) -> None:
    if _board:
        _board.write(note)


@contextlib.contextmanager
def _refusing(memory: int) -> Iterator[None]:
    """Have Linux refuse memory beyond the limit: an allocation of gigabytes would come between two polls."""
    if sys.platform != "linux" or not _board:
        yield
        return
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        data = int(file.read().split()[5]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = data + memory + _SLACK
    if soft != resource.RLIM_INFINITY:  # one that is within another
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def over(again: list[str], *, fork: bool = hasattr(os, "fork")) -> None:
    """Go on in a child, to which alone this returns; here it is watched, and this process ends as the child does.

    Raises `IngotError` where the child breaks a limit, or crashes at noted work. `again`: the command that does the
    same, for systems that can't fork.
    """
    global _board
    if NOTES in os.environ:
        _board = _Board(os.open(os.environ.pop(NOTES), os.O_RDWR))
    if _board:
        return
    if not fork:
        _over_started(again)
    with tempfile.TemporaryFile() as file:
        board = _Board(os.dup(file.fileno()))
    board.write(None)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        os.environ[LIFELINE] = str(os.getppid())
        os.environ.pop(LIFELINE_PIPE, None)
        lifeline.hold()
        _board = board
        return
    code = _watched(board, pid, lambda: _ended(pid))
    if code < 0:
        with contextlib.suppress(OSError):  # some can't be handled
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _ended(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _over_started(again: list[str]) -> NoReturn:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "notes")
        handle = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            board = _Board(handle)
            board.write(None)
            told = {NOTES: path, LIFELINE: str(os.getpid())}
            told |= {name: os.environ[name] for name in (REASON_FILE,) if name in os.environ}
            child = process.start(again, leads=False, stdin=None, stdout=None, stderr=None, env=told)
            try:
                code = _watched(board, child.pid, child.poll)
            finally:
                process.end_tree(child)
        finally:
            os.close(handle)
    sys.exit(code)


def _watched(board: _Board, pid: int, ended: Callable[[], int | None]) -> int:
    """The exit code of the child, -N for signal N. Raises `IngotError` where it broke a limit, or crashed at work."""
    pause, note = 0.005, None
    try:
        while (code := ended()) is None:
            time.sleep(pause)
            pause = min(2 * pause, _POLL)
            note = board.read()
            took = time.monotonic() - note.began if note else 0.0
            if note and took > note.left and (_used(pid) - note.used > note.left or took > _BUSY * note.left):
                raise note.too_slow()
            if note and tree_memory(pid)[1] > note.most:
                raise note.too_large()
    except KeyboardInterrupt:  # the child has it too, and tidies up
        _wait(ended, _GRACE)
        _kill(pid)
        raise
    except IngotError:
        _kill(pid)
        raise
    note = board.read()
    if note and code not in (0, 1, 2, 130):
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        raise IngotError(note.subject, f"ends the process that is {note.what}, {how}", note.remedy)
    return code


def _wait(ended: Callable[[], int | None], seconds: float) -> None:
    until = time.monotonic() + seconds
    while ended() is None and time.monotonic() < until:
        time.sleep(_POLL)


def _used(pid: int) -> float:
    """Seconds of the processor that a process has had; none where it has ended."""
    import psutil

    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def _kill(pid: int) -> None:
    """Kill a child that is of this group, and all below it."""
    import psutil

    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        for one in [*top.children(recursive=True), top]:
            with contextlib.suppress(psutil.Error):
                one.kill()
    if os.name != "nt":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

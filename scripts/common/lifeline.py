"""The child's half of never outliving the build: when the parent dies, however it dies, the whole group does.

Three things, since each alone has a hole. The kernel kills the child with its parent (Linux), but not what the child
started. The child's standard input is a pipe whose end is the parent's end, but a thread that waits for it does not
run while a library holds the interpreter. So a shell of the same group waits for that end, and kills the group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading

from scripts.common.childenv import CHILD_LOCK, LIFELINE, LIFELINE_PIPE

_PR_SET_PDEATHSIG = 1
_SHELL = "/bin/sh"


def hold() -> None:
    """Called by a child at its start: from now on it, and the group that it leads, end when the parent does."""
    parent = os.environ.get(LIFELINE)
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.name != "nt" and os.getppid() != int(parent):  # it died before we could ask the kernel
        _end_own_group()
    if LIFELINE_PIPE not in os.environ:  # its parent speaks to it there, and it ends when that stops
        return
    if os.name != "nt" and os.path.exists(_SHELL):
        os.posix_spawn(_SHELL, [_SHELL, "-c", "read _; kill -9 0"], {})
    else:
        threading.Thread(target=_watch_parent, daemon=True).start()


def lock() -> contextlib.AbstractContextManager[object]:
    """While a child of a build lives, its work folder is not swept, even if the build itself is gone."""
    path = os.environ.get(CHILD_LOCK)
    if not path:
        return contextlib.nullcontext()
    if os.name == "nt":
        from filelock import FileLock

        return FileLock(path)
    import fcntl  # what filelock takes on these systems too, without its import

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return contextlib.closing(os.fdopen(handle))


def _watch_parent() -> None:
    while os.read(0, 1):
        pass
    _end_own_group()


def _end_own_group() -> None:
    if os.name != "nt":
        leads = os.getpgrp() == os.getpid()  # else the group is the parent's, or that of a terminal's whole command
        os.kill(0 if leads else os.getpid(), signal.SIGKILL)
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    os._exit(1)

"""How much memory a process and all below it take; cheap enough to be looked at many times a second."""

from __future__ import annotations

import contextlib
import os

#: psutil would look at every process of the machine, five times a second, while another one is being measured.
_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def tree_memory(pid: int) -> tuple[int, int]:
    """Bytes of a process and all below it: resident, and what of that it made itself; 0 where it has ended.

    The rest are pages of files, such as weights that are mapped: the system takes those back where memory gets short,
    so they can't exhaust it. Only Linux tells them apart cheaply; elsewhere both are the same.
    """
    if not _LISTS_CHILDREN:
        return (_tree_rss_anywhere(pid),) * 2
    found = [_memory_linux(process) for process in _tree_linux(pid)]
    return sum(resident for resident, _ in found), sum(own for _, own in found)


def _tree_linux(pid: int) -> list[int]:
    found, pending = [pid], [pid]
    while pending:
        top = pending.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            for thread in os.listdir(f"/proc/{top}/task"):
                with open(f"/proc/{top}/task/{thread}/children", encoding="ascii") as file:
                    below = [int(word) for word in file.read().split()]
                found += below
                pending += below
    return found


def _memory_linux(pid: int) -> tuple[int, int]:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            resident, of_files = (int(word) * os.sysconf("SC_PAGE_SIZE") for word in file.read().split()[1:3])
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    return resident, resident - of_files


def _tree_rss_anywhere(pid: int) -> int:
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        total = top.memory_info().rss
        for child in top.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_info().rss
    return total

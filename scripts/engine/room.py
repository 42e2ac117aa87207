"""How many steps run at once: as many as the memory takes, by what each took when it last ran."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scripts.common.process import check_interrupted

#: A wait is cut into pieces so long, in seconds: no signal gets through to a thread that waits.
_PIECE = 0.5


class Room:
    """The memory that the steps of a build share, in bytes; for threads, each at a step."""

    def __init__(self, total: Callable[[], int]) -> None:
        """`total` is asked for once, when there is something to share."""
        self._total, self._running, self._changed = total, dict[str, int](), threading.Condition()

    @contextmanager
    def taken(self, name: str, likely: int, note: Callable[[str], None]) -> Iterator[None]:
        """Wait until there are `likely` bytes, or nothing else runs: what is too large for all runs by itself.

        `note` is told for whom it waits.
        """
        with self._changed:
            told = False
            while self._running and sum(self._running.values()) + likely > self._total():
                check_interrupted()
                if not told:
                    note(f"{name}: waiting for memory that {', '.join(self._running)} takes")
                    told = True
                self._changed.wait(_PIECE)
            self._running[name] = likely
        try:
            yield
        finally:
            with self._changed:
                del self._running[name]
                self._changed.notify_all()

"""A command that has our terminal and our input to itself, until it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

from scripts.common import process
from scripts.common.childenv import LIFELINE


def hand_over(command: Sequence[str]) -> int:
    """Run a command to its end; returns its exit code. What Ctrl-C means is for it to say; another signal that would
    end us is passed on, so that it ends tidily.
    """
    numbers = [found for name in ("SIGINT", "SIGTERM", "SIGHUP") if (found := getattr(signal, name, None)) is not None]
    # A handler that does nothing is not handed down, a signal that is ignored would be.
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    child = process.start(command, leads=False, stdin=None, stdout=None, stderr=None, env={LIFELINE: str(os.getpid())})

    def pass_on(number: int, _: FrameType | None) -> None:
        if number != signal.SIGINT:  # a terminal sends that to both
            child.send_signal(number)

    try:
        for number in numbers:
            signal.signal(number, pass_on)
        child.wait()
    finally:
        process.end_tree(child)
        for number, handler in before.items():
            signal.signal(number, handler)
    return child.returncode

"""Whether a process lives, by its id."""

from __future__ import annotations

import os

from scripts.common.moving import WINDOWS


def is_alive(process: int) -> bool:
    """Whether there is a process of that id, be it another one by now; on Windows not known, and so True."""
    if WINDOWS:  # a signal 0 would end it there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""Importing large packages sooner: what their modules make stays, so looking for garbage meanwhile is in vain."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector out of the way while importing: a fifth of the time that Olive or transformers takes.

    What was imported is then exempt from later collections too, which makes those cheaper.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
            gc.freeze()

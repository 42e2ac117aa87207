"""Importing packages sooner: most of what a step of a small model takes is imports."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector out of the way while importing: a fifth of the time that Olive or transformers takes.

    What modules make stays, so that looking for garbage meanwhile is in vain. What was imported is then exempt from
    later collections too, which makes those cheaper.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
            gc.freeze()


def leave_out_address_grammar() -> None:
    """Have jsonschema do without rfc3987-syntax from now on, in a process that only runs this project.

    Where it finds that package, jsonschema 4.26 imports it for the formats `iri` and `iri-reference`, and that compiles
    a grammar of internet addresses: nine tenths of its import, a second. The schemas of no draft ask for these formats,
    and those of users are judged without formats.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

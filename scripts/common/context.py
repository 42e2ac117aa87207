"""How long the context of a package is."""

from __future__ import annotations

#: Tokens, where nobody says: room for the answer of 2048 that the runtime reserves, and as much of a prompt. The cache
#: of keys and values is set aside for all of it.
DEFAULT = 4096

#: Tokens of each text that a conversion is judged on, unless told otherwise, and the room that the runtime wants after.
JUDGED, SPARE = 1024, 8


def positions(context: int) -> int:
    """The positions that a conversion's rotary tables are kept for, of a package with this context: its judges read
    `JUDGED` tokens, however few are served.
    """
    return max(context, JUDGED + SPARE)


def wanted(asked: int | None, max_length: int = 0) -> int:
    """The context in tokens: `asked`, else the default, or `max_length` where that is more."""
    return asked if asked is not None else max(DEFAULT, max_length)

"""The one exception that speaks to the reader: what failed, with which input, what to do next."""

from __future__ import annotations

from scripts.common.visible import short

#: Characters of each part: a path may be long, and so may a name that somebody made up.
MOST = 1000


class IngotError(Exception):
    """A failure with a cause that the reader can act on; shown as one line, never as a traceback.

    `subject` is the file, key or task at fault, `found` what was wrong with it, `remedy` what to do next. What they
    quote may be anybody's words: each becomes one line in which nothing is hidden.
    """

    def __init__(self, subject: object, found: str, remedy: str = "") -> None:
        self.subject, self.found, self.remedy = short(str(subject), MOST), short(found, MOST), short(remedy, MOST)
        super().__init__(f"{self.subject}: {self.found}" + (f". {self.remedy}" if remedy else ""))


class MissingInputError(IngotError):
    """A file or folder of the user's is not there."""


class UnknownNameError(IngotError):
    """A name, or a value beside it, that nothing has: a mistake on the command line."""

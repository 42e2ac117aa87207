"""Opening regular files alone: a pipe would be waited for, a device never ends, and a folder is none."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from scripts.common.errors import IngotError, MissingInputError


def opened(path: Path | str) -> BufferedReader:
    """A file, to be read. Raises `OSError` where it is not there, or not a regular file."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return open(handle, "rb")
    os.close(handle)
    raise OSError(errno.EINVAL, "is not a regular file", str(path))


def opened_of_user(path: Path, missing: str = "Put it there, or correct the path") -> BufferedReader:
    """A file that a user names, to be read.

    Raises `IngotError`: `MissingInputError`, with the remedy `missing`, where there is none.
    """
    try:
        if os.path.isdir(path):
            raise IngotError(path, "is a folder", "Give a file")
        return opened(path)
    except FileNotFoundError:
        raise MissingInputError(path, "there is no such file", missing) from None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENXIO):  # a socket can't even be opened
            raise IngotError(path, "is not a regular file", "Give a file") from None
        raise IngotError(path, f"can't be read: {error.strerror}", "Correct the path, or the file's rights") from None
    except ValueError:  # NUL
        raise IngotError(repr(str(path)), "is not a path", "Correct it") from None

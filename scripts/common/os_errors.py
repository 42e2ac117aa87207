"""What the system says of a file, as an error of ours: one line, with something to do about it."""

from __future__ import annotations

import errno

from scripts.common.errors import IngotError

_RIGHTS = "Correct its rights, or start again as a user who has them"
_FREE = "Free some space there, and start again"
_DRIVE = "See that its drive is there and sound, and start again"
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), _RIGHTS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FREE),
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT), _DRIVE),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Allow more open files (ulimit -n), or close other programs"),
    errno.ENOENT: "Put it there, or correct its path",
    errno.EROFS: "Make it writable, or name another place",
    errno.ENAMETOOLONG: "Give it a shorter name",
    errno.ELOOP: "It is a link that leads to itself: put the file there instead",
    errno.EISDIR: "Put a file there instead",
    errno.ENOTDIR: "One of the folders of its path is a file: correct the path",
    errno.EBUSY: "Close what uses it, and start again",
    errno.ENOMEM: "Close other programs, and start again",
    errno.EFBIG: "Name a place on a file system that takes files as large",
}  # fmt: skip
_OTHERWISE = "See that it can be read and written, and start again"


def ours(error: IngotError | OSError, otherwise: object = "the file system") -> IngotError:
    """An error as one of ours; its subject is the file, or `otherwise` where the system names none."""
    if isinstance(error, IngotError):
        return error
    found = error.strerror or str(error)
    return IngotError(error.filename or otherwise, found, _REMEDIES.get(error.errno or 0, _OTHERWISE))

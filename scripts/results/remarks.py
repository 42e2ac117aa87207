"""Remarks: what a stage assumed, renamed, ignored or chosen on the user's behalf, in sentences for table and report.

They lie beside what the stage made, as `remarks.json`: {"remarks": [{"subject": …, "text": …}]}. The file is part of
the artifact, so a remark must be the same on every machine: it names files and tensors, never absolute paths or times.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.visible import line

NAME = "remarks.json"


class Remark(msgspec.Struct, frozen=True):
    """`subject`: the file, tensor or key that it is about; `text`: one sentence, without a period at its end.

    Both become one line in which nothing is hidden, whatever they quote.
    """

    subject: str
    text: str

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "subject", line(self.subject))
        msgspec.structs.force_setattr(self, "text", line(self.text))


class _File(msgspec.Struct):
    remarks: list[Remark]


def write(folder: Path, remarks: Iterable[Remark]) -> None:
    """Write `remarks` to `folder`, each once, in their order; no file where there are none."""
    distinct = list(dict.fromkeys(remarks))
    if distinct:
        text = msgspec.json.format(msgspec.json.encode(_File(distinct)), indent=2)
        (folder / NAME).write_bytes(text + b"\n")


def read(folder: Path) -> list[Remark]:
    """The remarks in `folder`; none where there is no file of them."""
    path = folder / NAME
    try:
        return msgspec.json.decode(json_files.read_bytes(path), type=_File).remarks
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError) as error:
        raise IngotError(path, f"not a file of remarks: {error}", "Make the artifact again") from None

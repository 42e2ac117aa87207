"""`/save case`: what was said becomes a domain case, so that a failure in use is asked again at every build."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.cases import cases
from scripts.common.errors import IngotError


def case(turns: Sequence[Mapping[str, str]], expected: str, tokens: int) -> dict[str, Any]:
    """The case of the last question: all that was said before it, and what must hold of the answer.

    `expected`: a JSON object gives the fields that the answer must have, other text must be in the answer; nothing
    means exactly what was answered. `tokens` are those of the answer that was given.
    """
    *asked, answer = turns
    expect: dict[str, Any] = {"exact": answer["content"]}
    if expected:
        try:
            fields = json.loads(expected)
        except ValueError:
            fields = None
        expect = {"fields": fields} if isinstance(fields, dict) else {"contains": [expected]}
    now = datetime.datetime.now(datetime.UTC)
    return {
        "id": f"chat-{now:%Y%m%d-%H%M%S}-{now.microsecond:06}",
        "messages": [dict(message) for message in asked],
        "max_tokens": max(cases.MAX_TOKENS, tokens + tokens // 2),
        "expect": expect,
    }


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a case to a file of cases, which need not exist. Raises `IngotError` where the file can't be read or written,
    or what is in it is not cases; then it is as it was.
    """
    try:
        if path.exists() and path.stat().st_size:
            cases.load(path)
            ends = path.read_bytes().endswith(b"\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            ends = True
        text = ("" if ends else "\n") + json.dumps(row, ensure_ascii=False) + "\n"
        with path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise IngotError(path, f"can't be written: {error.strerror}", "Make it writable") from None

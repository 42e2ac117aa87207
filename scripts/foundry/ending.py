"""Does an answer end by itself, and where its turn does? Seen in what the deployed model says.

The package's end-of-sequence tokens come of the chat template; whether the weights were trained to give one is another
matter. The runtime leaves special tokens out of a text, so a model that goes on past its turn shows the words between
them: a line `assistant`, or `### Instruction:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.common import json_files
from scripts.results.remarks import Remark
from scripts.runtime.foundry import Answer, Chat, Message

#: An answer that is not over after so many tokens is said to run on.
MOST = 256
_PLACEHOLDER = "{Content}"


@dataclass(frozen=True)
class Ending:
    """`ended`: by a token that ends a generation, and not at a limit."""

    ended: bool
    remarks: list[Remark]


def judge(chat: Chat, folder: Path, messages: Sequence[Message], answer: Answer) -> Ending:
    """Judge an answer of the model in `folder`; one that its own limit cut off is asked for again, with more room."""
    if answer.finish == "length":
        room = _context(folder) - answer.prompt_tokens - 1
        answer = chat.complete(messages, max_tokens=max(1, min(MOST, room)))
    ended = answer.finish != "length"
    remarks = []
    if not ended:
        what = (
            f"an answer did not end by itself within {answer.completion_tokens} tokens: the model was not trained to "
            "end its turns, or needs more; requests should set max_output_tokens"
        )
        remarks.append(Remark("end of a turn", what))
    asked = "\n".join(message["content"] for message in messages)
    if leaked := [mark for mark in _marks(folder) if mark.search(answer.text) and not mark.search(asked)]:
        found = leaked[0].search(answer.text)
        shown = found[0].strip() if found else ""
        what = f"an answer holds {shown!r}, with which the chat template begins a turn: it goes on past its own"
        remarks.append(Remark("end of a turn", what))
    return Ending(ended, remarks)


def _marks(folder: Path) -> Iterator[re.Pattern[str]]:
    """What of the chat template would show in a text: tokens that are not special, and the words that begin a turn."""
    added = json_files.read(folder / "tokenizer.json").get("added_tokens") or []
    special = [entry["content"] for entry in added if entry.get("special")]
    path = folder / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.is_file() else ""
    for entry in added:
        shown = not entry.get("special") and not entry["content"].isspace()
        if shown and entry["content"] in template:
            yield re.compile(re.escape(entry["content"]))
    parts = json_files.read(folder / "inference_model.json").get("PromptTemplate") or {}
    for role in ("system", "user", "assistant"):
        head = str(parts.get(role, "")).partition(_PLACEHOLDER)[0]
        for token in special:
            head = head.replace(token, "")
        if word := head.strip():
            alone = word.isalpha()  # a word may stand in any text, but hardly on a line of its own
            yield re.compile(rf"(?:^|\n){re.escape(word)}(?:\n|$)" if alone else re.escape(word))


def _context(folder: Path) -> int:
    return int(json_files.read(folder / "genai_config.json")["model"]["context_length"])

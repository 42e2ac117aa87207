"""Do answers end by themselves, and where their turns do? Seen in what the deployed model says.

The package's end-of-sequence tokens come of the chat template; whether the weights were trained to give one is another
matter. The runtime leaves special tokens out of a text, so a model that goes on past its turn shows the words between
them: a line `assistant`, or `### Instruction:`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.common import json_files
from scripts.results.remarks import Remark
from scripts.runtime.foundry import Answer, Chat, Message, RuntimeFault

#: An answer that is not over after so many tokens is said to run on.
MOST = 256
_PLACEHOLDER = "{Content}"
#: A conversation, and the tokens that its answer may have.
Question = tuple[Sequence[Message], int]


@dataclass(frozen=True)
class Ending:
    """`ended`: every answer, by a token that ends a generation, and not at a limit."""

    ended: bool
    remarks: list[Remark]


def judge(chat: Chat, folder: Path, asked: Question, answer: Answer, others: Sequence[Question] = ()) -> Ending:
    """Judge an answer of the model in `folder`, and what it answers to `others`, conversations not asked yet.

    An answer that its own limit cut off is asked for again, with more room; the others have at least what they may use.
    """
    messages, most = asked
    answers = [(messages, answer if answer.finish != "length" else _ask(chat, folder, messages, 2 * most))]
    for other, limit in others:
        with contextlib.suppress(RuntimeFault):  # a case that is too long, say: `domain` tells it
            answers.append((other, _ask(chat, folder, other, limit)))
    cut = [answer for _, answer in answers if answer.finish == "length"]
    remarks = []
    if cut:
        which = "an answer" if len(answers) == 1 else f"{len(cut)} of {len(answers)} answers"
        themselves = "itself" if len(answers) == 1 else "themselves"
        what = (
            f"{which} did not end by {themselves} within {max(answer.completion_tokens for answer in cut)} tokens: the "
            "model was not trained to end its turns, or needs more; requests should set max_output_tokens"
        )
        remarks.append(Remark("end of a turn", what))
    marks = list(_marks(folder))
    if leaked := [found for asked, answer in answers if (found := _leaked(marks, asked, answer.text))]:
        what = f"an answer holds {leaked[0]!r}, with which the chat template begins a turn: it goes on past its own"
        remarks.append(Remark("end of a turn", what))
    return Ending(not cut, remarks)


def _ask(chat: Chat, folder: Path, messages: Sequence[Message], least: int) -> Answer:
    """An answer with as much room as it may need, if the context has that."""
    room = _context(folder) - chat.prompt_tokens(messages) - 1
    return chat.complete(messages, temperature=0, max_tokens=max(1, min(max(MOST, least), room)))


def _leaked(marks: Sequence[re.Pattern[str]], messages: Sequence[Message], text: str) -> str:
    """What begins a turn and stands in an answer, though not in what was asked; "" where nothing does."""
    asked = "\n".join(message["content"] for message in messages)
    found = [match for mark in marks if (match := mark.search(text)) and not mark.search(asked)]
    return found[0][0].strip() if found else ""


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

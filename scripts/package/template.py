"""Derive Foundry's PromptTemplate from a chat template, by looking at what it renders.

A chat template is a program; a PromptTemplate is four strings with a `{Content}` placeholder, one a role, and `prompt`
for the last user message together with what makes the model answer. Older runtimes lay the strings end to end. So:
render conversations whose messages are unique marks, cut at the marks, and see whether laying the pieces end to end
gives back what the chat template renders. Only what does is handed out, with the conditions under which it holds.

Source of the format: `inference_model.json` of Foundry Local before SDK 2, which read `system`, `user`, `assistant` and
`prompt` there; later runtimes render the chat template itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from scripts.checkpoint.tokenizer import REFUSALS

Message = Mapping[str, str]
Messages = Sequence[Message]
#: Renders a conversation; the flag asks for the generation prompt. Raises `TemplateError` for one it does not take.
Render = Callable[[Messages, bool], str]

PLACEHOLDER = "{Content}"


@dataclass(frozen=True)
class PromptTemplate:
    """`parts`: the strings by role, none where nothing holds. `remarks`: sentences on where they do not hold."""

    parts: dict[str, str]
    remarks: tuple[str, ...]


def derive(render: Render, *, dated: bool = False) -> PromptTemplate:
    """The PromptTemplate of a chat template, as far as it can be expressed as one.

    `dated`: the rendering depends on the day, so no fixed string is right tomorrow.
    """
    if dated:
        return PromptTemplate({}, ("The chat template writes the current date, which fixed strings can't.",))
    for cut, system, turns in ((_cut_with_system, True, 3), (_cut_without_system, False, 3), (_cut_single, False, 1)):
        parts = cut(render)
        if parts is None or any(text.count(PLACEHOLDER) != 1 for text in parts.values()):
            continue
        if all(_holds(render, parts, _talk(system, count)) for count in range(1, turns + 1)):
            return PromptTemplate(parts, tuple(_limits(render, parts, system=system, turns=turns)))
    return PromptTemplate({}, ("The chat template can't be expressed as fixed strings around each message.",))


def compose(parts: Mapping[str, str], messages: Messages) -> str:
    """What an older runtime makes of a conversation: the parts end to end, `prompt` for the last message."""
    *before, last = messages
    texts = [parts[message["role"]].replace(PLACEHOLDER, message["content"]) for message in before]
    return "".join(texts) + parts["prompt"].replace(PLACEHOLDER, last["content"])


def _talk(system: bool, turns: int, text: Callable[[str], str] = lambda mark: mark) -> list[dict[str, str]]:
    """A conversation of unique marks that ends with the user's message number `turns`."""
    roles = ["system"] * system + ["user", "assistant"] * turns
    return [
        {"role": role, "content": text(f"Mark{index}q{role[0]}Z")}
        for index, role in enumerate(roles[: 2 * turns - 1 + system])
    ]


def _rendered(render: Render, messages: Messages, prompt: bool = True) -> str | None:
    try:
        return render(messages, prompt)
    except REFUSALS:
        return None


def _holds(render: Render, parts: Mapping[str, str], messages: Messages) -> bool:
    if any(message["role"] not in parts for message in messages[:-1]):
        return False
    return _rendered(render, messages) == compose(parts, messages)


def _gaps(render: Render, messages: Messages, prompt: bool = True) -> list[str] | None:
    """The text before, between and after the messages' marks; None where a mark is lost, doubled or out of order."""
    rest = _rendered(render, messages, prompt)
    if rest is None or any(rest.count(message["content"]) != 1 for message in messages):
        return None
    gaps = []
    for message in messages:
        gap, mark, rest = rest.partition(message["content"])
        if not mark:
            return None
        gaps.append(gap)
    return [*gaps, rest]


def _cut_with_system(render: Render) -> dict[str, str] | None:
    """Cut where one message's end meets the next one's start, of which only the sum is seen.

    What ends a conversation after an answer shows the cut, unless the template writes more there (an end-of-text token)
    or less (a separator). Then it is the cut that leaves the least in front of a conversation without a system message.
    """
    gaps, alone = _gaps(render, _talk(True, 3)), _rendered(render, _talk(False, 1))
    if gaps is None:
        return None
    short = _gaps(render, _talk(True, 1), prompt=False)
    ended = _gaps(render, _talk(True, 2)[:3], prompt=False)
    shown = len(_common(gaps[3], ended[-1] if ended else ""))
    first = _parts_with_system(gaps, shown, short)
    if first is None or (ended and shown == len(ended[-1]) and _left_over(first, alone) < math.inf):
        return first
    cuts = [first, *(_parts_with_system(gaps, end, short) for end in range(len(gaps[3]), -1, -1))]
    return min((parts for parts in cuts if parts), key=lambda parts: _left_over(parts, alone))


def _parts_with_system(gaps: list[str], end: int, short: list[str] | None) -> dict[str, str] | None:
    """The parts if an answer's end is `end` characters long; None where the system message does not fit that."""
    after_assistant, before_user = gaps[3][:end], gaps[3][end:]
    if not gaps[1].endswith(before_user):  # inside the first user's turn, a system message has no part of its own
        return None
    after_user = _after_user(gaps[2], after_assistant, short)
    return {
        "system": gaps[0] + PLACEHOLDER + gaps[1][: len(gaps[1]) - len(before_user)],
        "user": before_user + PLACEHOLDER + after_user,
        "assistant": gaps[2][len(after_user) :] + PLACEHOLDER + after_assistant,
        "prompt": before_user + PLACEHOLDER + gaps[-1],
    }


def _left_over(parts: Mapping[str, str], alone: str | None) -> float:
    """Characters that a lone user message's rendering has in front of what the parts give; infinite if it differs."""
    composed = compose(parts, _talk(False, 1))
    return len(alone) - len(composed) if alone is not None and alone.endswith(composed) else math.inf


def _common(one: str, other: str) -> str:
    """The longest text that both begin with."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(letter for letter, _ in pairs)


def _cut_without_system(render: Render) -> dict[str, str] | None:
    """Every user's message must begin as the first does, which tells where the assistant's before it ends."""
    gaps = _gaps(render, _talk(False, 3))
    if gaps is None or not gaps[2].endswith(gaps[0]):
        return None
    before_user, after_assistant = gaps[0], gaps[2][: len(gaps[2]) - len(gaps[0])]
    after_user = _after_user(gaps[1], after_assistant, _gaps(render, _talk(False, 1), prompt=False))
    return {
        "user": before_user + PLACEHOLDER + after_user,
        "assistant": gaps[1][len(after_user) :] + PLACEHOLDER + after_assistant,
        "prompt": before_user + PLACEHOLDER + gaps[-1],
    }


def _after_user(gap: str, after_assistant: str, short: list[str] | None) -> str:
    """How much of `gap`, which leads from a user's message to the answer, belongs to the message.

    That is what ends an answer too, or else what ends a conversation that stops there (`short`: its gaps).
    """
    if after_assistant and gap.startswith(after_assistant):
        return after_assistant
    return _common(gap, short[-1] if short else "")


def _cut_single(render: Render) -> dict[str, str] | None:
    gaps = _gaps(render, _talk(system=False, turns=1))
    return None if gaps is None else {"prompt": gaps[0] + PLACEHOLDER + gaps[1]}


def _limits(render: Render, parts: Mapping[str, str], *, system: bool, turns: int) -> list[str]:
    """Sentences on where `parts`, which hold for plain conversations of their kind, stop holding."""
    found = []
    if turns == 1:
        found.append(
            "It holds for a single user message: the chat template treats the first message unlike later ones."
        )
    if system:
        bare = [_talk(system=False, turns=count) for count in (1, 2)]
        if not all(_holds(render, parts, talk) for talk in bare):
            found.append(_without_system(render, parts, bare[0]))
    elif _rendered(render, _talk(system=True, turns=1)) is None:
        found.append("It has no `system`: the chat template refuses system messages.")
    else:
        found.append("It has no `system`: the chat template has no fixed string for a system message.")
    edges = {
        "with white space around it is changed by the chat template": lambda mark: f" \n{mark}\t \n",
        "that is empty is left out or changed by the chat template": lambda _: "",
        "with a thinking block in it is changed by the chat template": lambda mark: f"<think>{mark}</think>{mark}",
    }
    for what, text in edges.items():
        if not _holds(render, parts, _talk(system, turns, text)):
            found.append(f"A message {what}; with the parts it is not.")
    return found


def _without_system(render: Render, parts: Mapping[str, str], talk: Messages) -> str:
    real, composed = _rendered(render, talk), compose(parts, talk)
    if real is None:
        return "It needs a system message, as the chat template does."
    if real.endswith(composed):
        return (
            "It holds for conversations that begin with a system message. Before any other, the chat template puts "
            f"{real[: len(real) - len(composed)]!r}, which no part can."
        )
    return (
        "It holds for conversations that begin with a system message; the chat template renders others in another way."
    )

"""Do transformers and the runtime make the same token ids of a conversation? If not, the package is refused.

A model answers well only to the ids that it was trained on, and a wrong template or tokenizer raises no error anywhere:
the answers are just worse. The truth is the checkpoint's tokenizer in transformers. The other side is what Foundry
Local's library calls to build a request: `OgaTokenizerApplyChatTemplate`, then `OgaTokenizerEncode` (special tokens in
the text become special ids, none are added), the same functions that `scripts.runtime.genai.Tokenizer` calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.checkpoint.tokenizer import REFUSALS
from scripts.common.errors import IngotError
from scripts.package.conversations import ASKED, HEARD, TOOLS, Conversation, conversations, rare, with_tools
from scripts.runtime import genai

#: Conversations that both sides must have rendered for the comparison to mean anything.
MINIMUM = 12
_AROUND = 4  # tokens shown on each side of a difference


class RenderedOtherwise(IngotError):  # noqa: N818 - says what it is
    """The runtime renders a chat template unlike transformers, or not at all."""


@dataclass(frozen=True)
class Agreement:
    """What was found, for a package that is not refused.

    `compared`: number of conversations with equal ids. `skipped`: what the template itself refuses, name to reason.
    `different`: known limits of the runtime that this tokenizer meets, name of the conversation to first difference;
    `rendered`: those of them that differ in their text already; `with_tools`: conversations with tools that do.
    """

    compared: int
    skipped: dict[str, str]
    different: dict[str, str]
    rendered: dict[str, str]
    with_tools: dict[str, str]


def compare(package: Path, tokenizer: Any, *, label: Path | None = None) -> Agreement:
    """Compare `package`'s tokenizer in the runtime with `tokenizer` (the checkpoint's, in transformers).

    Each conversation is rendered up to where an answer begins, and without that. Raises `IngotError` with the
    conversation and the first difference, or where fewer than twelve could be compared; `RenderedOtherwise` where that
    is the template's doing. `label`: what to call the package in errors.
    """
    label = label or package
    runtime, template = _open(package, label), str(tokenizer.get_chat_template())
    compared, skipped = 0, {}
    for name, messages in conversations(_markers(tokenizer, template)).items():
        try:
            sides = [_Side.of(tokenizer, template, messages, prompt=prompt) for prompt in (True, False)]
        except REFUSALS as error:
            skipped[name] = _line(str(error) or type(error).__name__)
            continue
        if name == ASKED and HEARD not in sides[0].text.lower():
            raise IngotError(
                f"{label}: chat template",
                "does not write what the user says: the model would never see a question",
                'Give the one that it was trained with: template = "FILE.jinja" in models.toml',
            )
        for side in sides:
            _same(name, side, runtime, tokenizer, label)
        compared += 1
    if compared < MINIMUM:
        name, reason = next(iter(skipped.items()))
        raise IngotError(
            f"{label}: chat template",
            f"transformers renders only {compared} of {compared + len(skipped)} conversations ({name!r}: {reason})",
            f"Correct the checkpoint's chat template; {MINIMUM} are needed to compare it with the runtime's",
        )
    seldom = _differences(rare(), (), runtime, tokenizer, template, label)
    tools = _differences(with_tools(), TOOLS, runtime, tokenizer, template, label)
    return Agreement(compared + tools.compared, skipped, seldom.ids | tools.ids, seldom.texts, tools.texts)


@dataclass
class _Differences:
    """First differences by conversation, of ids alone and of the text; and how many conversations had none."""

    ids: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    compared: int = 0


def _differences(
    talks: Mapping[str, Conversation],
    tools: Sequence[Mapping[str, Any]],
    runtime: genai.Tokenizer,
    tokenizer: Any,
    template: str,
    label: Path,
) -> _Differences:
    """What is reported and not refused; a conversation that the template itself refuses is passed over."""
    found = _Differences()
    for name, messages in talks.items():
        try:
            side = _Side.of(tokenizer, template, messages, tools=tools)
        except REFUSALS:
            continue
        try:
            _same(name, side, runtime, tokenizer, label)
        except RenderedOtherwise as error:
            found.texts[name] = error.found
        except IngotError:
            found.ids[name] = _difference(side.ids, runtime.encode(side.text), tokenizer)
        else:
            found.compared += 1
    return found


@dataclass(frozen=True)
class _Side:
    """What transformers makes of a conversation."""

    messages: Conversation
    tools: Sequence[Mapping[str, Any]]
    prompt: bool
    text: str
    ids: list[int]

    @staticmethod
    def of(
        tokenizer: Any,
        template: str,
        messages: Conversation,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        prompt: bool = True,
    ) -> _Side:
        """Raises what a template raises."""
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tools=list(tools) or None, add_generation_prompt=prompt, tokenize=False
        )
        ids = list(tokenizer.encode(text, add_special_tokens=False, verbose=False))
        return _Side(messages, tools, prompt, str(text), ids)


def _open(package: Path, label: Path) -> genai.Tokenizer:
    try:
        return genai.Tokenizer(package)
    except genai.GenaiFault as fault:
        raise IngotError(
            label / "tokenizer.json",
            f"the runtime can't load this tokenizer ({_line(fault.found)})",
            "It reads fast tokenizers (tokenizer.json) of the families that onnxruntime-genai supports",
        ) from fault


def _same(name: str, side: _Side, runtime: genai.Tokenizer, tokenizer: Any, label: Path) -> None:
    """Raise unless the runtime renders and tokenises a conversation as transformers does."""
    try:
        text = runtime.render(side.messages, tools=side.tools, prompt=side.prompt)
    except genai.GenaiFault as fault:
        raise RenderedOtherwise(
            f"{label}: chat template",
            f"the runtime can't render conversation {name!r}, which transformers can ({_line(fault.found)})",
            "Its Jinja is a part of the real one: say it there in plainer words",
        ) from fault
    ids = runtime.encode(text)
    if ids == side.ids:
        return
    if text != side.text:
        raise RenderedOtherwise(
            f"{label}: chat template",
            f"the runtime renders conversation {name!r} unlike transformers: {_text_difference(side.text, text)}; "
            f"{_difference(side.ids, ids, tokenizer)}",
            "Its Jinja is a part of the real one: say it there in plainer words",
        )
    raise IngotError(
        f"{label}: tokenizer.json",
        f"the runtime tokenises conversation {name!r} unlike transformers: {_difference(side.ids, ids, tokenizer)}",
        "Check that tokenizer.json is the checkpoint's own; if it is, the runtime does not support this tokenizer",
    )


def render_alike(tokenizer: Any, template: str, other: str) -> bool:
    """Whether transformers makes of every conversation, with tools and without, the same text by two templates."""
    talks = [*conversations(_markers(tokenizer, template)).values(), *rare().values(), *with_tools().values()]
    options = [{"add_generation_prompt": prompt} for prompt in (True, False)] + [{"tools": list(TOOLS)}]
    return all(
        _rendered(tokenizer, talk, chat_template=template, **option)
        == _rendered(tokenizer, talk, chat_template=other, **option)
        for talk in talks
        for option in options
    )


def _rendered(tokenizer: Any, talk: Conversation, **options: Any) -> str | None:
    try:
        return str(tokenizer.apply_chat_template(talk, tokenize=False, **options))
    except REFUSALS:
        return None


def _difference(truth: list[int], other: list[int], tokenizer: Any) -> str:
    at = next((i for i, (a, b) in enumerate(zip(truth, other, strict=False)) if a != b), min(len(truth), len(other)))
    sides = []
    for who, ids in (("transformers", truth), ("runtime", other)):
        near = tokenizer.decode(ids[max(0, at - _AROUND) : at + _AROUND + 1])
        found = f"id {ids[at]}" if at < len(ids) else "the end"
        sides.append(f"{who} has {found} in {near!r}")
    return f"at token {at} of {len(truth)} {', '.join(sides)}"


def _text_difference(truth: str, other: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(truth, other, strict=False)) if a != b), min(len(truth), len(other)))
    start = max(0, at - 12)
    return f"at character {at} {other[start : at + 24]!r} in place of {truth[start : at + 24]!r}"


def _markers(tokenizer: Any, template: str) -> list[str]:
    """Special tokens as text, those in the chat template first, a few are enough; and what it asks for in a text.

    Of that conversations must hold some, or what the two sides make of it would not show.
    """
    tokens = sorted(map(str, tokenizer.all_special_tokens))
    tokens += sorted(str(token) for token in tokenizer.get_added_vocab() if str(token) not in tokens)
    asked = sorted({found for _, found in re.findall(r"""(['"])((?:(?!\1).)+)\1\s+(?:not\s+)?in\b""", template)})
    return [*sorted(tokens, key=lambda token: token not in template)[:6], *asked[:20]]


def _line(words: str) -> str:
    """An error's message on one line, short enough to be read."""
    text = " ".join(words.split())
    return text if len(text) <= 160 else text[:159] + "…"

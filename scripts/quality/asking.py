"""Putting cases to a package in the runtime that serves it: several at once, and none for longer than decides it.

- One answer does not keep all cores busy: its threads wait for each other hundreds of times a token. So `AT_ONCE` are
  asked at a time, each a conversation of its own on the same loaded model. Every answer has the bytes that it has
  alone: what one computes does not depend on the other, nor, measured with onnxruntime 1.31 on the CPU, on threads.
- An answer that is to be JSON, and as which no JSON can begin any more, is ended there: however it went on, it would be
  wrong, not valid by the schema, and without fields. A model without its fine-tuning mostly says such things, up to the
  last token that it may. The first `WHOLE` of those are asked again and heard to their end, for a reader to see, and as
  a control: where one of them does not begin with what was heard before, all are.

What all cases begin with is computed for each anew: the runtime (SDK 2.2.1) keeps nothing of one session for the next,
and `undo_turns` takes a session back to its very beginning, not to where the next conversation parts from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema

from scripts.cases import cases as parsing
from scripts.cases.json_prefix import JsonPrefix
from scripts.common import genai_config
from scripts.quality import constrained
from scripts.results.domain import Constrained, Domain
from scripts.runtime import foundry

#: Cases that are asked at a time.
AT_ONCE = 2
#: Bytes of keys and values, of a whole context, that another answer may add to what serving is expected to take.
_ADDED = 256 << 20
#: Of the answers that were ended, so many are heard to their end.
WHOLE = 3
#: What the package is called in the private catalog: any name will do, and its own tells of no more than the card does.
_ID = "judged-generic-cpu:1"


@dataclass(frozen=True)
class Reply:
    """What came back for one case: what was said, and the tools that were called; `error` where nothing did.

    `cut`: it was ended when no JSON could begin like it any more.
    """

    text: str
    error: str | None = None
    calls: tuple[tuple[str, str], ...] = ()
    cut: bool = False


def ask(
    package: Path, cases: list[parsing.Case], validator: jsonschema.protocols.Validator | None = None,
    against: Domain | None = None, *, constrain: bool = False,
) -> tuple[list[Reply], Constrained | None]:  # fmt: skip
    """Put every case to the package in the Foundry runtime, greedily, each as a conversation of its own.

    With `constrain` and a `validator`, those whose answer is to be JSON also held to its schema.
    """
    at_once = asked_at_once(genai_config.read(package))
    with foundry.Runtime(keep_memory=True) as runtime, ThreadPoolExecutor(at_once) as pool:
        runtime.register(package, _ID)
        chat = runtime.load(_ID)
        # What the runtime takes out of an answer, it takes out of a whole one: thoughts, and calls of tools.
        plain = not foundry.claims_of(package)
        decided = [plain and not case.tools and parsing.must_be_json(case, validator) for case in cases]
        replies = list[Reply]()
        for number, reply in enumerate(pool.map(partial(_reply, chat), cases, decided), 1):
            replies.append(reply)
            print(f"domain: {number} of {len(cases)} asked", flush=True)
        _hear_whole(replies, lambda numbers: pool.map(partial(_reply, chat), (cases[number] for number in numbers)))
        free = {case.id: reply.text for case, reply in zip(cases, replies, strict=True) if not reply.error}
        export = against.constrained if against else None
        held = constrained.ask(chat, cases, free, validator, export, pool.map) if validator and constrain else None
    return replies, held


def asked_at_once(config: Mapping[str, Any]) -> int:
    """How many cases are asked at a time of a model with this genai_config.json: several where that takes little."""
    added = genai_config.key_value_bytes(config)
    return AT_ONCE if added and added <= _ADDED else 1


def _reply(chat: foundry.Chat, case: parsing.Case, until_decided: bool = False) -> Reply:
    """One answer; `until_decided`: no further than to where no JSON begins like it."""
    try:
        if until_decided:
            return _heard(chat, case)
        answer = chat.complete(case.messages, temperature=0, max_tokens=case.max_tokens, tools=case.tools)
    except foundry.RuntimeFault as error:
        return Reply("", str(error))
    calls = tuple((_encodable(name), _encodable(arguments)) for name, arguments in answer.calls)
    return Reply(_encodable(answer.text), calls=calls)


def _heard(chat: foundry.Chat, case: parsing.Case) -> Reply:
    text, prefix, possible = "", JsonPrefix(), True
    with closing(iter(chat.stream(case.messages, temperature=0, max_tokens=case.max_tokens))) as pieces:
        while possible and (piece := next(pieces, None)) is not None:
            text, possible = text + piece, prefix.feed(piece)
    return Reply(_encodable(text), cut=not possible)


def _hear_whole(replies: list[Reply], again: Callable[[Iterable[int]], Iterable[Reply]]) -> None:
    """Replace the first of the replies that were cut; all of them, where one that is whole begins otherwise."""
    cut = [number for number, reply in enumerate(replies) if reply.cut]
    for some, rest in ((cut[:WHOLE], cut[WHOLE:]), (cut[WHOLE:], [])):
        before = [replies[number] for number in some]
        for number, whole in zip(some, again(some), strict=True):
            replies[number] = whole
        if not rest or all(replies[n].text.startswith(was.text) for n, was in zip(some, before, strict=True)):
            return


def _encodable(text: str) -> str:
    """Text without halves of surrogate pairs, which no file holds."""
    return text.encode("utf-8", "replace").decode()

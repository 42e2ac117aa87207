"""What `edges` sends: everything that a user, a script or an attacker may send one day, and the answer it deserves.

Sampling values and types go over HTTP as streams that are left after their first piece: a runtime that ignores a bad
`max_tokens` would otherwise write on to the end of its context.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from scripts.edges.unicode_samples import samples

MEGABYTE = 1 << 20
SECONDS = 60.0  # for an ordinary request
LONG_SECONDS = 600.0  # for one that fills the context
_SCRIPTS_A_CASE = 16
_OVER = {"max_tokens": 2_000_000_000}  # more than any context
#: Text that decoders and renderers trip over, each of it legal.
_ODD = {
    "emoji of several code points": "👩🏽‍🚀 👨‍👩‍👧‍👦 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "right-to-left marks": "abc \u202eabc\u202c \u2067אבג\u2069",
    "a pile of accents": "e" + "\u0301" * 200,
    "controls": "".join(map(chr, [*range(1, 32), 127, *range(128, 160)])),
    "byte order mark, non-characters, private use": "\ufeff \ufffe \uffff \U0010ffff \ue000 \U000f0000",
    "a word of 400 letters": "a" * 200 + "b" * 200,
}


@dataclass(frozen=True)
class Said:
    """A question through Ingot's client; `leave`: streamed, and left after so many pieces."""

    messages: Any
    options: dict[str, Any]
    leave: int | None = None
    limit: float = SECONDS


@dataclass(frozen=True)
class Posted:
    """A request over HTTP, byte for byte; `leave` and `gone_after` as in `clients.post`."""

    body: bytes
    leave: int | None = None
    gone_after: float | None = None
    path: str = "/chat/completions"
    method: str = "POST"
    limit: float = SECONDS


@dataclass(frozen=True)
class Case:
    """One of them.

    `expected`: answer, refusal, or either; what is refused over HTTP gets a 4xx. `promised`: Ingot's client
    promises the refusal. `rests`: afterwards, the runtime must have stopped working. `known`: how many ordinary
    questions follow.
    """

    id: str
    what: str
    expected: str
    sends: tuple[Said | Posted, ...]
    promised: bool = False
    rests: bool = False
    known: int = 1

    @property
    def client(self) -> Literal["session", "http"]:
        """session or http."""
        return "session" if isinstance(self.sends[0], Said) else "http"


@dataclass(frozen=True)
class Facts:
    """Of the model: its id, its context in tokens, a short question and its tokens, a question that all but fills the
    context (as far as that is tried; None: there is none so short) and its tokens, its tokenizer's special tokens.
    """

    model_id: str
    context: int
    short: str
    short_tokens: int
    full: str | None
    full_tokens: int
    markers: tuple[str, ...]


def user(text: Any) -> list[dict[str, Any]]:
    """A conversation of one message of the user's."""
    return [{"role": "user", "content": text}]


def body(model_id: str, text: Any, **more: Any) -> dict[str, Any]:
    """A request of the OpenAI API; what is given as `...` is left out."""
    whole = {"model": model_id, "messages": user(text), "max_tokens": 2, "temperature": 0, **more}
    return {key: value for key, value in whole.items() if value is not ...}


def encoded(value: Any) -> bytes:
    """As JSON; a lone surrogate as the escape that JSON has for it, NaN as Python writes it."""
    return json.dumps(value).encode()


def cases(facts: Facts) -> list[Case]:
    """All of them. `session-X` and `http-X` send the same text last: where both answer, they must agree."""
    return [
        *_texts(facts), *_lengths(facts), *_conversations(facts), *_sampling(facts), *_requests(facts),
        *_scripts(facts), *_ends(facts),
    ]  # fmt: skip


def _both(facts: Facts, name: str, what: str, expected: str, text: Any, **how: Any) -> Iterator[Case]:
    """The same text by both clients; `promised` is about the session."""
    promised = how.pop("promised", False)
    said = Said(user(text), {"max_tokens": 2}, **how)
    yield Case(f"session-{name}", what, "refusal" if promised else expected, (said,), promised=promised)
    yield Case(f"http-{name}", what, expected, (Posted(encoded(body(facts.model_id, text)), **how),))


def _texts(facts: Facts) -> Iterator[Case]:
    yield from _both(facts, "empty", "an empty question", "either", "")
    yield from _both(facts, "blank", "white space only", "either", " \n\t\u00a0\u3000 ")
    yield from _both(facts, "one-token", "a question of one token", "answer", "a")
    yield from _both(facts, "nul", "a NUL in the text", "either", "Hello\0there", promised=True)
    yield from _both(facts, "only-nul", "nothing but a NUL", "either", "\0", promised=True)
    yield from _both(facts, "lone-surrogate", "half a surrogate pair", "refusal", "Hello \ud83d there", promised=True)
    yield from _both(facts, "markers", "template markers in the text", "answer", " ".join(facts.markers) or "<s>")
    for number, (what, text) in enumerate(_ODD.items(), 1):
        yield from _both(facts, f"odd-{number}", what, "answer", text)
    for name, what, raw in (
        ("latin-1", "bytes that are no UTF-8", b"caf\xe9"),
        ("raw-surrogate", "half a surrogate pair in UTF-8", b"\xed\xa0\xbd"),
    ):
        sent = encoded(body(facts.model_id, "TEXT")).replace(b"TEXT", raw)
        yield Case(f"http-{name}", what, "refusal", (Posted(sent),))


def _lengths(facts: Facts) -> Iterator[Case]:
    room = facts.context - facts.short_tokens
    for name, what, tokens, expected in (
        ("fits-exactly", "prompt and answer may fill the context exactly", room, "answer"),
        ("one-over", "prompt and answer may be one token over the context", room + 1, "refusal"),
    ):
        yield Case(f"session-{name}", what, expected, (Said(user(facts.short), {"max_tokens": tokens}, leave=1),))
        sent = encoded(body(facts.model_id, facts.short, max_tokens=tokens, stream=True))
        yield Case(f"http-{name}", what, expected, (Posted(sent, leave=1),))
    if facts.full is not None:
        what = f"a prompt of {facts.full_tokens} tokens, the context is {facts.context}"
        room = min(16, facts.context - facts.full_tokens)
        said = Said(user(facts.full), {"max_tokens": room}, limit=LONG_SECONDS)
        yield Case("session-full", what, "answer", (said,))
        over = facts.context - facts.full_tokens + 1
        sent = encoded(body(facts.model_id, facts.full, max_tokens=over))
        what = "the same, and an answer that may be one token over"
        yield Case("session-full-one-over", what, "refusal", (replace(said, options={"max_tokens": over}),))
        yield Case("http-full-one-over", what, "refusal", (Posted(sent, limit=LONG_SECONDS),))
    words = MEGABYTE // len("word ")
    # A token at least for each word; a larger context may take it.
    expected = "refusal" if facts.context < words else "either"
    yield from _both(facts, "megabyte", "1 MB of text", expected, "word " * words, limit=LONG_SECONDS)


def _conversations(facts: Facts) -> Iterator[Case]:
    wrong: dict[str, tuple[str, Any, bool]] = {
        "unknown-role": ("an unknown role", [{"role": "robot", "content": "Hi"}], True),
        "no-role": ("a message without a role", [{"content": "Hi"}], True),
        "no-content": ("a message without content", [{"role": "user"}], True),
        "null-content": ("null as content", user(None), True),
        "number-content": ("a number as content", user(3), True),
        "number-role": ("a number as role", [{"role": 3, "content": "Hi"}], True),
        "no-messages": ("no messages at all", [], False),
        "text-messages": ("a text where a message belongs", ["Hi"], True),
        "null-messages": ("null as messages", None, True),
    }
    for name, (what, messages, promised) in wrong.items():
        yield Case(f"session-{name}", what, "refusal", (Said(messages, {"max_tokens": 2}),), promised=promised)
        sent = encoded(body(facts.model_id, "", messages=messages))
        yield Case(f"http-{name}", what, "refusal", (Posted(sent),))


def _sampling(facts: Facts) -> Iterator[Case]:
    wrong: dict[str, tuple[str, Any, bool]] = {
        "negative-temperature": ("temperature", -1, False),
        "huge-temperature": ("temperature", 1e9, False),
        "nan-temperature": ("temperature", float("nan"), True),
        "infinite-temperature": ("temperature", float("inf"), True),
        "text-temperature": ("temperature", "hot", True),
        "top-p-over-1": ("top_p", 2, False),
        "negative-top-p": ("top_p", -0.5, False),
        "no-tokens": ("max_tokens", 0, False),
        "negative-tokens": ("max_tokens", -1, False),
        "huge-tokens": ("max_tokens", 10**12, True),
        "endless-tokens": ("max_tokens", 10**30, True),
        "fraction-of-tokens": ("max_tokens", 1.5, True),
        "text-tokens": ("max_tokens", "two", True),
        "huge-seed": ("seed", 2**70, True),
    }
    for name, (key, value, promised) in wrong.items():
        what = f"{key} = {value}"
        yield Case(
            f"session-{name}", what, "refusal", (Said(user("Hi"), {"max_tokens": 2, key: value}),), promised=promised
        )
        sent = encoded(body(facts.model_id, "Hi", **{key: value}, stream=True))
        yield Case(f"http-{name}", what, "refusal", (Posted(sent, leave=1),))
    said = Said(user("Hi"), {"max_tokens": 2, "warmth": 1})
    yield Case("session-unknown-option", "an option that does not exist", "refusal", (said,), promised=True)


def _requests(facts: Facts) -> Iterator[Case]:
    good = encoded(body(facts.model_id, "Hi"))
    wrong: dict[str, tuple[str, Any]] = {
        "unknown-model": ("a model that is not there", body("no-such-model:1", "Hi")),
        "other-case-model": ("the model's id in capitals", body(facts.model_id.upper(), "Hi")),
        "no-model": ("no model", body(facts.model_id, "Hi", model=...)),
        "number-model": ("a number as model", body(facts.model_id, "Hi", model=3)),
        "missing-messages": ("no messages", body(facts.model_id, "Hi", messages=...)),
        "object-messages": ("an object as messages", body(facts.model_id, "Hi", messages={"role": "user"})),
        "text-stream": ("a text as stream", body(facts.model_id, "Hi", stream="yes")),
        "number-stop": ("a number as stop", body(facts.model_id, "Hi", stop=3)),
        "array": ("an array as request", []),
        "null": ("null as request", None),
        "cut": ("JSON that ends in the middle", good[: len(good) // 2]),
        "no-json": ("text that is not JSON", b"Hi there"),
        "no-body": ("an empty body", b""),
        "utf-16": ("JSON in UTF-16", good.decode().encode("utf-16")),
        "deep": ("100,000 brackets", b"[" * 100_000),
        "path": ("a path that is not there", Posted(good, path="/no/such/path")),
        "method": ("a GET", Posted(b"", method="GET")),
    }
    for name, (what, sent) in wrong.items():
        if not isinstance(sent, Posted):
            sent = Posted(sent if isinstance(sent, bytes) else encoded(sent))
        yield Case(f"http-{name}", what, "refusal", (sent,))
    extra = encoded(body(facts.model_id, "Hi", warmth=1))
    yield Case("http-unknown-field", "a field that does not exist", "either", (Posted(extra),))
    marked = b"\xef\xbb\xbf" + good
    yield Case("http-byte-order-mark", "JSON after a byte order mark", "either", (Posted(marked),))


def _scripts(facts: Facts) -> Iterator[Case]:
    known = list(samples().items())
    for start in range(0, len(known), _SCRIPTS_A_CASE):
        some = dict(known[start : start + _SCRIPTS_A_CASE])
        number, names = start // _SCRIPTS_A_CASE + 1, ", ".join(some)
        one_by_one = tuple(Said(user(text), {"max_tokens": 1}) for text in some.values())
        together = " ".join(some.values())
        yield Case(f"session-scripts-{number}", names, "answer", (*one_by_one, Said(user(together), {"max_tokens": 2})))
        yield Case(f"http-scripts-{number}", names, "answer", (Posted(encoded(body(facts.model_id, together))),))


def _ends(facts: Facts) -> Iterator[Case]:
    """Clients that leave, and what comes after a failure."""
    much = min(512, facts.context - facts.short_tokens)
    asked = body(facts.model_id, facts.short, max_tokens=much)
    yield Case("session-stream-left", "a stream left after its first piece", "answer",
               (Said(user(facts.short), {"max_tokens": much}, leave=1),) * 3, rests=True)  # fmt: skip
    yield Case("http-stream-left", "a client that leaves a stream after its first piece", "answer",
               (Posted(encoded({**asked, "stream": True}), leave=1),) * 3, rests=True)  # fmt: skip
    yield Case("http-client-gone", "a client that leaves before its answer comes", "answer",
               (Posted(encoded(asked), gone_after=0.5),), rests=True)  # fmt: skip
    over = (Posted(encoded(body(facts.model_id, "Hi", **_OVER))), Posted(b"{"))
    yield Case("http-50-after-a-failure", "50 ordinary questions after a failure", "refusal", over, known=50)
    yield Case("session-50-after-a-failure", "50 ordinary questions after a failure", "refusal",
               (Said(user("Hi"), _OVER),), known=50)  # fmt: skip

"""Conversations that a template and two tokenizers must agree on: plain ones, and what users really send.

More than twelve have no system message and alternate strictly, so that templates which know no more than that are
judged on twelve too.
"""

from __future__ import annotations

import json
from typing import Any

Conversation = list[dict[str, Any]]

_CODE = """def total(items: list[int]) -> int:
\treturn sum(\n\t\titem for item in items   if item > 0
\t)  # 100 % of it, "quoted" and 'so'
"""
_JSON = json.dumps({"id": 7, "tags": ["a", None, True], "note": 'say "no"\n', "ratio": -1.5e-7}, indent=2)
_SCRIPTS = (  # the look-alikes of other alphabets are the point
    "Grüße, où est-ce? Привет, мир. Γειά σου. שלום. مرحبا بالعالم. नमस्ते दुनिया. "
    "สวัสดี. 안녕하세요. 你好，世界。日本語の文章。"
)
_FAMILY = "\u200d".join("👩👩👧👦")  # one glyph of seven code points
_RIGHT_TO_LEFT = "اكتب رسالة من 3 أسطر (بالعربية) إلى a@b.de. עברית: \u202bשלום, 42%!\u202c \u200f"
_MARKUP = '# Title\n\n<p class="x">A &amp; B</p>\n\n* **bold** `code`\n\n| a |\n|---|\n| 1 |\n\n```\nx\n```\n\n---'
_THINKING = "<think>\nThe user greets me.\n</think>\n\nHello!"
_EMOJI = f"🙂🚀 {_FAMILY} 👍🏽 🇩🇪 ❤️ ﷽ \u00e9 a\u200bb \U0001d54f"
_LONG = "".join(f"{n}. The quick brown fox, no. {n * 7919}, jumps over {n % 13} lazy dogs.\n" for n in range(1, 250))


#: The conversation that every template must render, and words of it that a rendering holds.
ASKED, HEARD = "one question", "capital of france"


def _talk(*texts: str, system: str | None = None) -> Conversation:
    first: Conversation = [] if system is None else [{"role": "system", "content": system}]
    return first + [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def conversations(markers: list[str]) -> dict[str, Conversation]:
    """Conversations by name. `markers`: the tokenizer's special tokens, to be met inside content as users type them."""
    inside = "text ".join(["What does ", *markers, "mean, and\nassistant\nwhy?"])
    return {
        ASKED: _talk("What is the capital of France?"),
        "three turns": _talk("Hi!", "Hello. How can I help?", "Sum 2 and 2.", "4", "And 3 and 3?"),
        "many turns": _talk(*(f"Line {n}, please." for n in range(21))),
        "several scripts": _talk(_SCRIPTS),
        "several scripts answered": _talk("Translate.", _SCRIPTS, "Again, slower."),
        "emoji": _talk(_EMOJI, _EMOJI, _EMOJI),
        "newlines and tabs": _talk("one\ntwo\r\nthree\n\n\n\nfour\tfive\n    six", "\n- a\n- b", "go\n on"),
        "empty user message": _talk(""),
        "empty answer": _talk("Say nothing.", "", "Thank you."),
        "white space around": _talk("  both sides  ", "\n\nanswer\n", " \n trailing \t\n"),
        "runs of spaces": _talk("a  b   c    d     e" + " " * 40 + "f"),
        "template markers inside": _talk(inside, inside, inside),
        "template language inside": _talk("{{ messages }} {% if x %}{# no #}{% endif %} {Content} {0} %s ${HOME} \\n"),
        "code": _talk(_CODE, _CODE, "Make it shorter."),
        "JSON": _talk(_JSON, _JSON, "As YAML?"),
        "numbers and punctuation": _talk(
            "1234567890 3.14159 1,000,000 0x1F v2.10.3 a.b@c.de http://x.y/z?q=1&r=2#s !?…—"
        ),
        "very long": _talk(_LONG),
        "long history": _talk(*(f"{n}: {_SCRIPTS[n % 40 : n % 40 + 20]}" for n in range(61))),
        "right to left": _talk(_RIGHT_TO_LEFT, _RIGHT_TO_LEFT, _RIGHT_TO_LEFT),
        "markup": _talk(_MARKUP, _MARKUP, "Shorter."),
        "thinking answered": _talk("Hi!", _THINKING, "And again?"),
        "thinking asked about": _talk("What do <think> and </think> mean?", "Tags.", "And <|think|>?"),
        "one letter": _talk("a", "b", "ß"),
        "an answer last": _talk("Hi!", "Hello."),
        "an answer last, to be gone on with": _talk("Write a line.", "Once upon a ", "Go on.", "time, there "),
        "a thought last": _talk("Hi!", _THINKING),
        "two of the user's in a row": [*_talk("Hi!"), *_talk("Are you there?")],
        "only an answer": _talk("Hi!", "Hello.")[1:],
        "with system": _talk("My invoice is wrong.", system="You sort support tickets. Answer in JSON."),
        "with system, three turns": _talk("a", "b", "c", "d", "e", system="Be brief.\nBe kind."),
        "empty system": _talk("Hello", system=""),
        "system with white space around": _talk("Hello", "Hi", "Bye", system="\n  Be brief.  \n"),
        "system of several scripts": _talk(_SCRIPTS, system=_SCRIPTS + _EMOJI),
        "system with template markers": _talk(inside, system=inside),
        "only system": _talk(system="Be brief."),
        "with system, an answer last": _talk("Hi!", "Hello.", system="Be brief."),
        "system in the middle": [*_talk("Hi!", "Hello."), *_talk("Go on.", system="Be brief.")],
        "system, long history": _talk(*(f"Line {n}." for n in range(31)), system=_MARKUP),
    }


def rare() -> dict[str, Conversation]:
    """Conversations where the runtime is known to differ for whole families, whatever the checkpoint.

    onnxruntime-genai 0.18 skips a tokenizer's Unicode normalisation (NFC, as Qwen has it), so letters typed as base and
    accent apart get other ids. Text that is in NFC already, as nearly all is, is not touched by it. It cuts a word
    of hundreds of equal characters otherwise than tokenizers in the manner of SentencePiece. And where a template
    trims, it takes the white space of ASCII alone.
    """
    apart = "Cafe\u0301, man\u0303ana, A\u030angstro\u0308m, \u1112\u1161\u11ab"
    return {
        "letters and accents apart": _talk(apart, apart, apart),
        "long word": _talk("x" * 700 + "ß" * 100 + "=" * 300),
        "wide white space around": _talk("\u3000全角\u3000", "\u00a0a\u00a0", "\u2003b\u2028"),
    }


#: Tools as clients describe them to a chat.
TOOLS: tuple[dict[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a place.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": 'Where, as in "Köln".'},
                    "days": {"type": "integer", "enum": [1, 3]},
                },
                "required": ["place"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object"}}},
)


def with_tools() -> dict[str, Conversation]:
    """Conversations to which tools are offered: none is called, one is, its result is there, it was answered."""
    ask = _talk("How is the weather in Köln?")
    call = {"name": "weather", "arguments": {"place": "Köln", "days": 3}}
    called: Conversation = [
        *ask,
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "id": "call00001", "function": call}]},
    ]
    told: Conversation = [
        *called,
        {"role": "tool", "name": "weather", "tool_call_id": "call00001", "content": '{"sky": "grey", "degrees": 7.5}'},
    ]
    return {
        "tools": ask,
        "tools and system": [*_talk(system="Be brief."), *ask],
        "a tool called": called,
        "a tool's result": told,
        "a tool's result answered": [*told, *_talk("", "Grey.", "Thanks.")[1:]],
    }

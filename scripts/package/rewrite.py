"""Write a chat template otherwise, so that the runtime's Jinja renders it as transformers does.

The Jinja of onnxruntime-genai 0.18 is a part of the real one, and reads some of that otherwise without a word: it trims
no blocks, finds no text in a text, and lets variables out of loops and macros. What is rewritten, and how, is in
`jinja_rules`. Whether the result means the same is shown by rendering: see `tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from scripts.package.jinja_rules import Rules
from scripts.package.jinja_text import UnwritableError, written


class _Generation(Extension):
    """`{% generation %}`, with which transformers marks what to train on: its body is the same without."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


#: The runtime flattens the tools of a request unless the template's text holds these words, be it in a comment.
_TOOLS_AS_THEY_ARE = "{# tool.function #}"
#: As transformers sets it up.
_ENVIRONMENT = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])


@dataclass(frozen=True)
class Rewriting:
    """A template in other words: `text`, None where there are none; `done` says what was changed, `lacking` names what
    the runtime has no words for, each with its line.
    """

    text: str | None
    done: tuple[str, ...]
    lacking: tuple[str, ...]


def rewritten(source: str, tokens: Mapping[str, Any]) -> Rewriting:
    """A template in words that mean the same to transformers and to the runtime, as far as there are any.

    `tokens`: the tokenizer's special tokens by name, such as `unk_token`.
    """
    given = {
        name: str(token)
        for name, token in tokens.items()
        if isinstance(token, str) and name not in ("bos_token", "eos_token")
    }
    rules = Rules(given)
    try:
        text = written(rules.visit(_ENVIRONMENT.parse(source)))
    except UnwritableError as error:
        return Rewriting(None, (), (*_named(rules.lacking), str(error)))
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        return Rewriting(None, (), (f"{error}{f' in line {line}' if line else ''}",))
    done = ["line breaks after tags left out", *rules.done]
    if "tools" in rules.names and not any(word in text for word in ("tool.function", "tool|tojson")):
        text = f"{_TOOLS_AS_THEY_ARE}{text}"
        done.append("tools handed over as they are")
    return Rewriting(text, tuple(done), tuple(_named(rules.lacking)))


def _named(lacking: list[tuple[str, int]]) -> list[str]:
    return [f"{what} in line {line}" for what, line in sorted(lacking, key=lambda found: found[1])]

"""Write a chat template otherwise, so that the runtime's Jinja renders it as transformers does.

The Jinja of onnxruntime-genai 0.18 differs in two ways that whole families meet. It does not trim blocks: transformers
drops a newline after a block tag and blanks before one that begins its line. And `'x' in text` is false for any text.
Both can be said in words that mean the same to either. Whether a rewritten template does is not decided here but by
rendering: see `tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jinja2 import Environment, TemplateError

#: As transformers sets it up, as far as splitting a template into its parts goes.
_ENVIRONMENT = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
_NEWLINE = "{{ '\\n' }}"
Part = tuple[str, str]


def rewritten(source: str, same: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Templates that mean what `source` does, each with what was done, the least changed first.

    `same` tells whether transformers renders a template as it does `source`: what fails that is left as it was.
    """
    trimmed = untrimmed(source)
    if trimmed != source and same(trimmed):
        yield trimmed, "line breaks after block tags left out"
    for text, done in ((source, ""), (trimmed, "line breaks after block tags left out, and ")):
        if text == trimmed == source and done:
            continue
        if (searched := _searched(text, same)) != text:
            yield searched, f"{done}'…' in TEXT written as TEXT.split('…') | length > 1"


def untrimmed(source: str) -> str:
    """The template without what trimming takes away; a newline that it leaves is written as an expression."""
    result, after_block = [], False
    for kind, value in _parts(source):
        if kind in ("block_end", "comment_end", "raw_end"):
            value = value.removesuffix("\n")
        elif kind == "data" and after_block and value.startswith("\n"):
            value = _NEWLINE + value[1:]
        after_block = kind in ("block_end", "comment_end", "raw_end")
        result.append(value)
    return "".join(result)


def _searched(source: str, same: Callable[[str], bool]) -> str:
    """The template with each `'…' in NAME` that can be written as a split written so."""
    at = 0
    while True:
        parts = _parts(source, keep=True)
        found = next(((start, end, text) for start, end, text in _memberships(parts) if start >= at), None)
        if found is None:
            return source
        start, end, text = found
        other = "".join(value for _, value in [*parts[:start], ("", text), *parts[end:]])
        if same(other):
            source, at = other, start + 1
        else:
            at = start + 1


def _memberships(parts: list[Part]) -> Iterator[tuple[int, int, str]]:
    """Where parts read `STRING [not] in NAME…`: first and last place, and what to write instead."""
    for start, (kind, literal) in enumerate(parts):
        if kind != "string":
            continue
        at, words = start + 1, []
        while at < len(parts) and (parts[at][0] == "whitespace" or parts[at][1] in ("not", "in")):
            words += [parts[at][1]] if parts[at][0] != "whitespace" else []
            at += 1
        if words not in (["in"], ["not", "in"]) or at >= len(parts) or parts[at][0] != "name":
            continue
        end = _operand(parts, at)
        text = "".join(value for _, value in parts[at:end])
        yield start, end, f"({text}.split({literal}) | length {'> 1' if words == ['in'] else '< 2'})"


def _operand(parts: list[Part], at: int) -> int:
    """Where a name ends, with the attributes and items that are taken of it."""
    at += 1
    while at < len(parts):
        if parts[at][1] == "." and parts[at + 1][0] == "name":
            at += 2
        elif parts[at][1] == "[":
            depth = 0
            while at < len(parts):
                depth += {"[": 1, "]": -1}.get(parts[at][1], 0)
                at += 1
                if not depth:
                    break
        else:
            break
    return at


def _parts(source: str, *, keep: bool = False) -> list[Part]:
    """A template's parts by Jinja's own lexer; with `keep` their texts together are the template again."""
    environment = Environment(keep_trailing_newline=True) if keep else _ENVIRONMENT
    try:
        return [(kind, value) for _, kind, value in environment.lexer.tokeniter(source, None)]
    except TemplateError:
        return [("data", source)]

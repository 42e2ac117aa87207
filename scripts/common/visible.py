"""Words of strangers, made fit to be shown: nothing hidden, no line forged, no markup, whatever they contain.

Names of files and tensors, chat templates, cases and a model's answers are input. A terminal would act on escapes in
them, a mark of direction turns around what follows, a line feed begins a line that looks like Ingot's own, and
Markdown makes links of them. Each form of output passes its words through one of these functions, and none drops
anything: what could not be seen is told by its number.
"""

from __future__ import annotations

import re
from typing import Any

#: Unicode's control and format characters (which have marks of direction and of no width), halves of characters, ends
#: of lines other than the line feed, letters and selectors that show nothing. Not the few format characters that show.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSEEN = re.compile(f"[{_HIDDEN}]")
_ENDS = re.compile(r"\s*[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
#: What marks up, wherever it stands; what begins a block at the start of a line; what becomes a link or a character.
_MARKS = re.compile(r"[\\`*_\[\]<>|~$]|&(?=[#\w]+;)|(?<=[a-z]):(?=//)|(?<=www)\.", re.IGNORECASE)
_BLOCK = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=#{1,6}(?:\s|$)|[+-](?:\s|$)|--+$|=+$))")


def visible(text: str) -> str:
    """A text of several lines in which nothing is hidden: controls as their symbols, other signs by number."""
    return text if text.isprintable() else _UNSEEN.sub(_named, text)


def line(text: str) -> str:
    """The same on one line."""
    return text if text.isprintable() else visible(_ENDS.sub(" ", text))


def short(text: str, most: int) -> str:
    """One line of at most so many characters, the middle of a longer one left out."""
    told = line(text)
    half = most // 2
    return told if len(told) <= most else f"{told[:half]} … {told[-half + 3 :]}"


def markdown(text: str) -> str:
    """One line that stays text in Markdown, wherever it stands."""
    escaped = _MARKS.sub(r"\\\g<0>", " ".join(line(text).split()))
    return _BLOCK.sub(r"\1\\", escaped)


def code(text: str) -> str:
    """One line of Markdown as code, whatever backticks are in it."""
    plain = line(text).replace("|", "\N{DIVIDES}")  # a bar would end a table's cell even there
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    inner = f" {plain} " if len(fence) > 1 or not plain.strip() else plain
    return f"{fence}{inner}{fence}"


def json_text(text: str) -> str:
    """JSON that says the same, with every hidden sign as its escape."""
    return text if text.isprintable() else _UNSEEN.sub(_escaped, text)


def lines_of(value: Any) -> Any:
    """A value of lists and dicts with every text in it on one line; keys too."""
    if isinstance(value, str):
        return line(value)
    if isinstance(value, dict):
        return {lines_of(key): lines_of(item) for key, item in value.items()}
    return [*map(lines_of, value)] if isinstance(value, list | tuple) else value


def _named(found: re.Match[str]) -> str:
    number = ord(found[0])
    return chr(0x2400 + number) if number < 0x20 else f"⟨U+{number:04X}⟩"


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x10000:
        return f"\\u{number:04x}"
    return f"\\u{0xD7C0 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"

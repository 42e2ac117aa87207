"""Whether a JSON value may begin as a text does (RFC 8259, as `json_values.parse` reads it), character by character."""

from __future__ import annotations

_SPACE, _DIGITS, _HEX = " \t\n\r", "0123456789", "0123456789abcdefABCDEF"
#: Inside a number, a literal or an escape: what may come next, and what that leads to.
_MOVES: dict[str, dict[str, str]] = {
    "-": {"0": "zero", "123456789": "whole"},
    "zero": {".": "point", "eE": "e"},
    "whole": {_DIGITS: "whole", ".": "point", "eE": "e"},
    "point": {_DIGITS: "fraction"},
    "fraction": {_DIGITS: "fraction", "eE": "e"},
    "e": {"+-": "sign", _DIGITS: "power"},
    "sign": {_DIGITS: "power"},
    "power": {_DIGITS: "power"},
    "escape": {'"\\/bfnrt': "string", "u": "u"},
    "u": {_HEX: "u1"}, "u1": {_HEX: "u2"}, "u2": {_HEX: "u3"}, "u3": {_HEX: "string"},
    **{word[:end]: {word[end]: word[: end + 1]} for word in ("true", "false", "null") for end in range(1, len(word))},
    "true": {}, "false": {}, "null": {},
}  # fmt: skip
#: After which a value may be over.
_COMPLETE = ("zero", "whole", "fraction", "power", "true", "false", "null")
_BEGINS = {"-": "-", "0": "zero", "123456789": "whole", "t": "t", "f": "f", "n": "n"}


class JsonPrefix:
    """A text that is told piece by piece, and whether it may still become one JSON value with nothing around it."""

    def __init__(self) -> None:
        self._state = "value"
        self._open = list[str]()  # the brackets that are due
        self._after_string = "after"

    def feed(self, text: str) -> bool:
        """Take more of the text; False once no text whatever that begins so is JSON, and from then on."""
        for char in text:
            if self._state == "none" or not self._step(char):
                self._state = "none"
        return self._state != "none"

    def _step(self, char: str) -> bool:
        if self._state in _MOVES:
            if (to := _next(_MOVES[self._state], char)) or self._state not in _COMPLETE:
                self._state = to or "none"
                return to is not None
            self._state = "after"
        if self._state == "string":
            self._state = {'"': self._after_string, "\\": "escape"}.get(char, "string")
            return char >= " "
        return char in _SPACE or self._between(char)

    def _between(self, char: str) -> bool:
        """A character outside of strings, numbers and literals that is not white space."""
        state = self._state
        if self._open and char == self._open[-1] and state in ("first key", "first item", "after"):
            self._open.pop()
            self._state = "after"
        elif state == "after" and self._open and char == ",":
            self._state = "key" if self._open[-1] == "}" else "value"
        elif state == "colon" and char == ":":
            self._state = "value"
        elif state in ("key", "first key") and char == '"':
            self._state, self._after_string = "string", "colon"
        elif state in ("value", "first item"):
            return self._begin(char)
        else:
            return False
        return True

    def _begin(self, char: str) -> bool:
        if char in "{[":
            self._open.append("}" if char == "{" else "]")
            self._state = "first key" if char == "{" else "first item"
        elif char == '"':
            self._state, self._after_string = "string", "after"
        else:
            self._state = _next(_BEGINS, char) or "none"
        return self._state != "none"


def _next(moves: dict[str, str], char: str) -> str | None:
    return next((to for chars, to in moves.items() if char in chars), None)

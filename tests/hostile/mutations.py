"""Strategies that spoil a sound value or file: its structure, then its bytes."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st


def _nested(depth: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


#: What strangers put where something else is due.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, -4, 7, 2**31, 2**63, 10**30, 10**4200, 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", "x", "int4", "0", "\0", "a\0b", "\x1b[2J\nerror: forged", "\u202egnp", "\u200b", "\ud800", "../../b",
    "/dev/zero", "/dev/null", "~nobody/x", "a" * 5000, "{{ 1 }}", "(a+)+$", "#/a", "https://e.example/x.json",
    [], {}, [None], [[]],
    [1, "a", None, {}], {"": None}, {"a": {"b": []}}, {"\x1b[31m": "\u202e"}, _nested(90, list), _nested(150, dict),
)  # fmt: skip
KEYS = ("", "x", "\0", "\x1b[31m", "\u202e", "__proto__", "a.b", "..", "$ref", "\ud800", "type", "name", "config")


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in _places(item, (*path, key)))]


@st.composite
def values(draw: st.DrawFn, sound: Any) -> Any:
    """A sound value with up to three of its parts replaced, taken out, doubled or called otherwise."""
    spoilt = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_places(spoilt)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(st.sampled_from(VALUES))
            continue
        *way, last = path
        inside = spoilt
        for key in way:
            inside = inside[key]
        what = draw(st.sampled_from(("replace", "replace", "replace", "remove", "rename", "other")))
        if what == "remove":
            del inside[last]
        elif what == "rename" and isinstance(inside, dict):
            inside[draw(st.sampled_from(KEYS))] = inside.pop(last)
        elif what == "other":
            inside[last] = copy.deepcopy(draw(st.sampled_from([_at(spoilt, place) for place in _places(spoilt)])))
        else:
            inside[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return spoilt


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@st.composite
def cut(draw: st.DrawFn, sound: bytes, most: int = 4) -> bytes:
    """Sound bytes with up to `most` places overwritten, cut out, doubled or filled in."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(("flip", "word", "cut", "end", "double", "fill")))
        if what == "flip" and start < len(data):
            data[start] ^= draw(st.integers(1, 255))
        elif what == "word":
            number = draw(st.sampled_from((0, 1, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1)))
            data[start : start + 8] = number.to_bytes(8, "little")
        elif what == "cut":
            del data[start : start + draw(st.integers(1, 64))]
        elif what == "end":
            del data[start:]
        elif what == "double":
            data[start:start] = data[start : start + draw(st.integers(1, 64))]
        else:
            part = draw(st.sampled_from((b"[", b"{", b'"', b"\x00", b"\xff", b"\xed\xa0\x80", b"9", b",", b"\n")))
            data[start:start] = part * draw(st.sampled_from((1, 2, 200, 5000)))
    return bytes(data)


@st.composite
def json_files(draw: st.DrawFn, sound: Any) -> bytes:
    """A JSON file whose value is spoilt, or whose bytes are, or both."""
    kind = draw(st.integers(0, 3))
    value = sound if kind == 3 else draw(values(sound))
    text = json.dumps(value).encode()
    return draw(cut(text)) if kind > 1 else text


@st.composite
def toml_files(draw: st.DrawFn, sound: dict[str, Any]) -> bytes:
    """A TOML file whose value is spoilt, or whose bytes are; a value that TOML has no word for is a mistake in it."""
    kind = draw(st.integers(0, 3))
    value = sound if kind == 3 else draw(values(sound))
    if not isinstance(value, dict):
        value = {"model": value}
    data = as_toml(value)
    return draw(cut(data)) if kind > 1 else data


def as_toml(value: dict[str, Any]) -> bytes:
    """A TOML file."""
    return "".join(f"{json.dumps(key)} = {_toml(item)}\n" for key, item in value.items()).encode()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return {float("inf"): "inf"}.get(value, json.dumps(value))

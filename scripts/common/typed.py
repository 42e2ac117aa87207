"""Values that people write, judged by one typed definition: a msgspec `Struct`, with `Meta` for what a type can't say.

msgspec judges; where it refuses, the walk below finds the place again and says what a reader needs: file and key, what
was found, what is allowed, and which word was probably meant. It costs nothing where all is well.
"""

from __future__ import annotations

import functools
import operator
import re
import reprlib
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from scripts.common.errors import IngotError
from scripts.common.secrets import plain_addresses

T = TypeVar("T")

_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100


def parse(value: Any, kind: type[T], *, file: object = "", where: str = "") -> T:
    """`value`, as TOML or JSON gave it, as a `kind`. Raises `IngotError` for the first thing that does not fit.

    `file` and `where` (a table in it) say where the value stands.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fault = next(_faults(value, kind, ()), Fault((), str(error), ""))
    except UnicodeEncodeError:
        fault = Fault((), "holds half of a character, a surrogate without its other", "Write whole characters")
    raise IngotError(place(file, where, *fault.path), fault.found, fault.remedy) from None


def given(value: msgspec.Struct) -> dict[str, Any]:
    """What is set in a Struct whose absent fields are None, by the names that files use."""
    items = (getattr(value, name) for name in value.__struct_fields__)
    return {name: item for name, item in zip(value.__struct_encode_fields__, items, strict=True) if item is not None}


def place(file: object, *keys: str) -> str:
    """How a key in a file is called: `models.toml: model 'triage'.sampling.top_p`."""
    name = ".".join(key for key in keys if key).replace(".[", "[")
    return f"{file}: {name}" if name and file else name or str(file)


def suggest(word: str, allowed: Iterable[object]) -> str:
    """A remedy for an unknown word: the nearest allowed one if it is near, and all of them."""
    import difflib  # here: where all is well, nobody asks

    names = sorted(map(str, allowed))
    if not names:
        return "None is allowed here"
    near = difflib.get_close_matches(word, names, n=1)
    return (f"Did you mean {near[0]!r}? " if near else "") + "Allowed: " + ", ".join(names)


def short(value: Any) -> str:
    """A value as a person wrote it, in at most 120 characters, without control characters or passwords in addresses."""
    try:
        text = plain_addresses(_SHORT.repr(value))
    except ValueError:  # a number of more digits than Python writes
        text = "a number of thousands of digits"
    return text if len(text) <= 120 else f"{text[:119]}…"


def key_name(key: str) -> str:
    """A key as it is shown: what is not a bare key of TOML could carry anything."""
    return key if re.fullmatch(r"[\w-]+", key) else short(key)


class Fault(NamedTuple):
    """What does not fit: the keys that lead there, what was found, what would fit."""

    path: tuple[str, ...]
    found: str
    remedy: str


def fields(kind: type) -> dict[str, Any]:
    """The fields of a Struct by the names that files use, with their annotated types."""
    hints = _hints(kind)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _faults(value: Any, kind: Any, path: tuple[str, ...]) -> Iterator[Fault]:
    """Everything in `value` that does not fit `kind`, in the order in which it stands there."""
    kind, metas = bare(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin is Literal:
        if type(value) not in {type(item) for item in inner}:
            yield Fault(path, f"expected {_WORDS[type(inner[0])]}, found {short(value)}", suggest("", inner))
        elif value not in inner:
            yield Fault(path, f"{short(value)} is not allowed", suggest(str(value), inner))
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from _struct_faults(value, kind, path)
    elif origin in (list, tuple):
        yield from _list_faults(value, inner[0], path)
    elif origin in (dict, Mapping):
        yield from _dict_faults(value, inner[1], path)
    elif not (type(value) is kind or (kind is float and type(value) is int)):
        yield Fault(path, f"expected {_WORDS.get(kind, kind)}, found {short(value)}", _wanted(metas))
    yield from _beyond(value, metas, path)


def bare(kind: Any) -> tuple[Any, list[msgspec.Meta]]:
    """A type without its annotations and without None, and the annotations."""
    metas: list[msgspec.Meta] = []
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            metas += [meta for meta in more if isinstance(meta, msgspec.Meta)]
        elif get_origin(kind) in (Union, types.UnionType):
            [kind] = [part for part in get_args(kind) if part is not type(None)]
        else:
            return kind, metas


def _struct_faults(value: Any, kind: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(path, f"expected a table, found {short(value)}", "Write it as { key = value }")
        return
    known = fields(kind)
    for key, item in value.items():
        if key in known:
            yield from _faults(item, known[key], (*path, key))
        else:
            yield Fault((*path, key_name(key)), "unknown key", suggest(key, known))
    for field in msgspec.structs.fields(kind):
        if field.required and field.encode_name not in value:
            plain, metas = bare(known[field.encode_name])
            yield Fault((*path, field.encode_name), "is missing", _wanted(metas) or f"Give {_WORDS.get(plain, 'it')}")


def _list_faults(value: Any, kind: Any, path: tuple[str, ...]) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield Fault(path, f"expected a list, found {short(value)}", "Write it as [ … ]")
        return
    for number, item in enumerate(value, 1):
        yield from _faults(item, kind, (*path, f"[{number}]"))


def _dict_faults(value: Any, kind: Any, path: tuple[str, ...]) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(path, f"expected a table, found {short(value)}", "Write it as { key = value }")
        return
    for key, item in value.items():
        yield from _faults(item, kind, (*path, key_name(key)))


def _beyond(value: Any, metas: list[msgspec.Meta], path: tuple[str, ...]) -> Iterator[Fault]:
    """What is of the right type and breaks a rule of `Meta`."""
    for meta in metas:
        if type(value) in (int, float):
            rules = ((operator.ge, meta.ge), (operator.gt, meta.gt), (operator.le, meta.le), (operator.lt, meta.lt))
            if not all(bound is None or holds(value, bound) for holds, bound in rules):
                yield Fault(path, f"{short(value)} is out of range", _wanted(metas))
        if isinstance(value, str | list | dict):
            if meta.min_length is not None and len(value) < meta.min_length:
                yield Fault(path, "is empty", _wanted(metas))
            elif meta.max_length is not None and len(value) > meta.max_length:
                yield Fault(path, f"{short(value)} is too long", _wanted(metas))
        if isinstance(value, str) and meta.pattern is not None and not re.search(meta.pattern, value):
            yield Fault(path, f"{short(value)} is not what is expected", _wanted(metas))


def _wanted(metas: list[msgspec.Meta]) -> str:
    """The remedy: what a key's definition says must be given."""
    said = next((meta.title for meta in metas if meta.title), "")
    return f"Give {said}" if said else ""

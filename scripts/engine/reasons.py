"""Why a step is not current, as typed values: for people as a line each, for programs as fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.common.visible import line

_KINDS = {"inputs": "input changed", "parameters": "parameter changed", "observed": "condition changed",
          "tools": "tool version changed", "sources": "stage code changed"}  # fmt: skip
_ABSENT = "absent"
#: An order is told in full where no more things than this have moved.
_TOLD = 4


@dataclass(frozen=True)
class Reason:
    """The kind of change, what it concerns, old and new value where there are any (of files: digests, shortened)."""

    kind: str
    what: str
    old: str | None = None
    new: str | None = None

    def __str__(self) -> str:
        return line(self._told())

    def _told(self) -> str:
        if self.kind == "input changed" and _ABSENT in (self.old, self.new):
            return f"input {'added' if self.old == _ABSENT else 'removed'}: {self.what}"
        change = f": {self.old} → {self.new}" if self.old is not None or self.new is not None else ""
        return f"{self.kind}: {self.what}{change}" if self.what else f"{self.kind}{change}"


def changes(
    old: Mapping[str, Any], new: Mapping[str, Any], names: Mapping[str, str],
    old_files: Mapping[str, Any], new_files: Mapping[str, Any],
) -> list[Reason]:  # fmt: skip
    """Typed reasons for two keys to differ.

    `old` and `new` are ingredients; `names` says what to call an input; the files are those of the inputs that are
    folders of the user's: input → relative path → digest.
    """
    found, moved = _reordered(old.get("inputs") or {}, new.get("inputs") or {}, names)
    for group, kind in _KINDS.items():
        before, after = old.get(group) or {}, new.get(group) or {}
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) == after.get(name) or (group == "inputs" and name in moved):
                continue
            if group in ("parameters", "observed"):
                found += [
                    Reason(kind, path, *pair)
                    for path, *pair in _fields(name, before.get(name, ...), after.get(name, ...))
                ]
            elif group == "inputs" and name in old_files and name in new_files:
                found += _changed_files(names.get(name, name), old_files[name], new_files[name])
            else:
                what = names.get(name, name) if group == "inputs" else name
                found.append(Reason(kind, what, _short(before.get(name)), _short(after.get(name))))
    return found or [Reason("key changed", "")]


def _reordered(
    old: Mapping[str, str], new: Mapping[str, str], names: Mapping[str, str]
) -> tuple[list[Reason], set[str]]:
    """Reasons for the flags of which only the order of the inputs has changed; and those inputs' names in the key."""
    found, moved = list[Reason](), set[str]()
    flags = dict.fromkeys(name.rpartition("[")[0] for name in new)
    for flag in flags:
        places = sorted((name for name in new if name.rpartition("[")[0] == flag), key=_number)
        before, after = [old.get(place) for place in places], [new[place] for place in places]
        if before == after or sorted(map(str, before)) != sorted(after):
            continue
        moved.update(places)
        changed = [place for place in places if old[place] != new[place]]
        now = [names.get(place, place) for place in changed]
        if len(now) > _TOLD:
            found.append(Reason("order changed", flag))
            continue
        called: dict[str, list[str]] = {}
        for place, name in zip(changed, now, strict=True):
            called.setdefault(new[place], []).append(name)
        was = [called[old[place]].pop(0) for place in changed]
        found.append(Reason("order changed", flag, ", ".join(was), ", ".join(now)))
    return found, moved


def _number(name: str) -> int:
    number = name.rpartition("[")[2].rstrip("]")
    return int(number) if number.isdecimal() else 0


def _changed_files(where: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Reason]:
    return [
        Reason("input changed", f"{where}/{file}", _short(old.get(file)), _short(new.get(file)))
        for file in sorted(old.keys() | new.keys())
        if old.get(file) != new.get(file)
    ]


def _fields(path: str, old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """The innermost fields that differ: a recipe changes in one of its numbers, not as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _fields(f"{path}.{key}", old.get(key, ...), new.get(key, ...))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and not _same_things(old, new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _fields(f"{path}[{number}]", before, after)
    elif old != new:
        yield path, _text(old), _text(new)


def _same_things(old: list[Any], new: list[Any]) -> bool:
    """Whether only their order differs: then that is the change, and not each place."""
    return sorted(map(_text, old)) == sorted(map(_text, new))


def _text(value: Any) -> str:
    return _ABSENT if value is ... else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _short(value: Any) -> str:
    if value is None:
        return _ABSENT
    text = str(value)
    verdict, _, digest = text.rpartition(":")
    return f"{verdict}:{digest[:12]}" if verdict else text[:12] if len(text) == 64 else text

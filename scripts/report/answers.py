"""The answers of the precisions side by side with the float export's, and where they differ."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field

from scripts.report.node import Node

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
#: Answers that are longer than this, in words, are compared line by line: the search takes time by the square.
_MANY = 2000


@dataclass
class Answer:
    """One text, and the variants that gave it; `parts` are (differs from the float export's, text)."""

    case: Node
    names: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    parts: list[tuple[bool, str]] = field(default_factory=list)


@dataclass
class Case:
    """One case: who lost or won it against the float export, and each different answer once."""

    name: str
    lost: list[str]
    won: list[str]
    answers: list[Answer]

    @property
    def differs(self) -> bool:
        """Whether any precision answered otherwise than the float export."""
        return len(self.answers) > 1


def side_by_side(model: Node) -> list[Case]:
    """Every case that was asked, in this order: lost ones, won ones, those answered otherwise, the rest."""
    variants = [("float", model["export"]["domain"])]
    variants += [(row["precision"].raw, row["domain"]) for row in model["precisions"]]
    found: dict[str, Case] = {}
    for name, domain in variants:
        for case in domain["cases"]:
            there = found.setdefault(case["id"].raw, Case(case["id"].raw, [], [], []))
            for answer in there.answers:
                if all(answer.case[what].raw == case[what].raw for what in ("text", "calls", "passed")):
                    answer.names.append(name)
                    break
            else:
                there.answers.append(Answer(case, [name], parts=_parts(there, case)))
        for change, listed in (("lost", "lost"), ("won", "won")):
            for identifier in domain["baseline"][listed].raw or []:
                if identifier in found:
                    getattr(found[identifier], change).append(name)
    return sorted(found.values(), key=lambda case: (not case.lost, not case.won, not case.differs))


def _parts(there: Case, case: Node) -> list[tuple[bool, str]]:
    text = str(case["text"].raw)
    if not there.answers:
        return [(False, text)]
    return differences(str(there.answers[0].case["text"].raw), text)


def differences(before: str, after: str) -> list[tuple[bool, str]]:
    """`after` in parts, those marked True that `before` does not have at that place. The parts make up `after`."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    if len(old) * len(new) > _MANY**2:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    parts: list[tuple[bool, str]] = []
    for tag, _, _, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        text = "".join(new[first:last])
        if text:
            parts.append((tag != "equal", text))
    return parts

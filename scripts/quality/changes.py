"""Where along a text a model changes, and in which pieces it is fed the text to see that.

A window that the graph lacks, a rotary table that ends or is scaled wrongly, a cache that loses a token: each gives the
right answer up to some length. So one long passage is judged around each length at which the model changes: where its
sliding window fills, where the context ends that it was first trained on, and where the context ends that is served.
There it is fed twice: in one piece across the change, and token by token. Every model is judged token by token at the
beginning, for a few tokens: each of them reads all weights, from the disk where memory is short. A model that only has
plain rotary embeddings does the same at every position: no more is asked of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.common.context import SPARE

#: Positions judged before a change and after it.
BEFORE, AFTER = 16, 32
#: So long is a prompt after which tokens come one by one, as in every answer, and so many are judged.
PROMPT, FEW = 64, 16
_SHORT = "a short prompt"
#: How a passage is fed.
WHOLE, STEPS = "in one piece", "token by token"


@dataclass(frozen=True)
class Span:
    """Positions `start` to `stop` of the passage, judged because of `what`."""

    start: int
    stop: int
    what: str


def find(config: Any, context: int) -> dict[int, str]:
    """position → what changes there, for a transformers text config, below `context` tokens."""
    found: dict[int, str] = {}
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if window and getattr(config, "use_sliding_window", True) and (not kinds or "sliding_attention" in kinds):
        found[int(window)] = "the sliding window"
    scaled = False
    rope = getattr(config, "rope_parameters", None) or {}
    for table in [table for table in rope.values() if isinstance(table, Mapping)] or [rope]:
        scaled |= table.get("rope_type", "default") != "default"
        if original := table.get("original_max_position_embeddings"):
            found.setdefault(int(original), "the original context")
    end = context - SPARE - AFTER
    reached = {at: what for at, what in sorted(found.items()) if at <= end}
    if (reached or scaled) and end > PROMPT:
        reached.setdefault(end, "the end of the context")
    if context - SPARE > PROMPT + AFTER:
        reached.setdefault(PROMPT, _SHORT)
    return dict(sorted(reached.items()))


def spans(places: Mapping[int, str]) -> list[Span]:
    """The judged spans around `places` in order; where two would overlap, the later begins where the former ends."""
    found: list[Span] = []
    for at, what in sorted(places.items()):
        before, after = (0, FEW) if what == _SHORT else (BEFORE, AFTER)
        start = max(1, at - before, found[-1].stop if found else 1)
        if start < at + after:
            found.append(Span(start, at + after, what))
    return found


def bounds(start: int, stop: int, most: int) -> list[tuple[int, int]]:
    """`start` to `stop` in pieces of at most `most` positions."""
    return [(at, min(at + most, stop)) for at in range(start, stop, most)]


def passes(spans: list[Span], rows: int, way: str) -> Iterator[tuple[list[Span], list[tuple[int, int]]]]:
    """How the passage is fed to see `spans`: for each time that it is, the spans seen and the pieces.

    In one piece, all are seen in one go. Token by token each is gone to anew, with those before it fed in one piece:
    what is cached at a change can depend on how it was crossed (LongRoPE), and what is compared must be cached alike.
    """
    for number, last in enumerate(spans):
        if way == WHOLE and last is not spans[-1]:
            continue
        found: list[tuple[int, int]] = []
        done = 0
        for span in spans[: number + 1]:
            found += bounds(done, span.start, rows)
            found += bounds(span.start, span.stop, step(rows, way if span is last else WHOLE))
            done = span.stop
        yield (spans if way == WHOLE else [last]), found


def step(rows: int, way: str) -> int:
    """How many positions at a time a span is fed."""
    return 1 if way == STEPS else rows

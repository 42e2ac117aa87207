"""Sampling defaults for whoever chats with a model: which there are, and the values each may have."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from scripts.common.typed import given, parse

#: The runtime counts tokens in 32 bits.
MOST_TOKENS = 2**31 - 1
Tokens = Annotated[int, Meta(ge=16, le=MOST_TOKENS, title="a whole number of tokens from 16")]
Temperature = Annotated[float, Meta(ge=0, le=2, title="a number from 0 (greedy) to 2")]
TopP = Annotated[float, Meta(gt=0, le=1, title="a number above 0, at most 1")]
TopK = Annotated[int, Meta(ge=1, le=MOST_TOKENS, title="a whole number from 1")]
Penalty = Annotated[float, Meta(gt=0, le=10, title="a number above 0, at most 10")]


class Sampling(Struct, forbid_unknown_fields=True, frozen=True):
    """Sampling defaults, all optional."""

    max_length: Annotated[Tokens | None, Meta(description="tokens of prompt and answer together")] = None
    temperature: Annotated[Temperature | None, Meta(description="0 is greedy")] = None
    top_p: Annotated[TopP | None, Meta(description="share of the probability that is drawn from")] = None
    top_k: Annotated[TopK | None, Meta(description="how many tokens are drawn from")] = None
    repetition_penalty: Annotated[Penalty | None, Meta(description="1 is none")] = None


def parse_sampling(values: Any, *, where: str = "sampling") -> dict[str, float]:
    """A table of sampling defaults, those that are set. Raises `IngotError` on an unknown key or value out of range."""
    return given(parse(values, Sampling, where=where))

"""What is asked of a model: the gates by name, which values each may have, and what holds where a user names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from scripts.common.typed import given, parse

Nats = Annotated[float, Meta(gt=0, le=1000, title="a number of nats above 0")]
Share = Annotated[float, Meta(ge=0, le=1, title="a number from 0 to 1")]
Points = Annotated[float, Meta(ge=0, le=100, title="a number from 0 to 100")]


class Gates(Struct, forbid_unknown_fields=True, frozen=True):
    """Gates; only one that is given refuses."""

    kl: Annotated[Nats | None, Meta(description="KL divergence from the float model, mean: at most")] = None
    kl_warn: Annotated[Nats | None, Meta(description="the same: above it, a warning")] = None
    kl_p99: Annotated[Nats | None, Meta(description="KL divergence at 99 of 100 positions: at most")] = None
    top1: Annotated[Share | None, Meta(description="same first choice where the float model is sure: at least")] = None
    perplexity_ratio: Annotated[
        Annotated[float, Meta(gt=0, le=1e6, title="a number above 0")] | None,
        Meta(description="perplexity over the float model's: at most"),
    ] = None
    domain_points: Annotated[Points | None, Meta(description="points of the cases lost against float: at most")] = None
    domain_floor: Annotated[Points | None, Meta(description="cases passed, in percent: at least")] = None


#: KL divergence of the float export from the checkpoint, in nats, mean and 99th percentile: more is a conversion bug. A
#: sound export measures 3e-7; one of thirty matrices scaled by 1.1 measures 9.6e-4 and 5.5e-3 (SmolLM2-135M).
EXPORT_GATES: Mapping[str, float] = {"kl": 1e-3, "kl_p99": 2e-3}
#: For a recipe that names no gates of its own.
DEFAULT_GATES: Mapping[str, float] = {"kl": 0.25, "kl_warn": 0.05, "domain_points": 5}
#: What `quality domain` judges; the others are of `quality compare`.
OF_DOMAIN = ("domain_points", "domain_floor")


def parse_gates(values: Any, *, where: str = "gates") -> dict[str, float]:
    """A table of gates, those that are set. Raises `IngotError` on an unknown name or a value out of range."""
    return {name: float(value) for name, value in given(parse(values, Gates, where=where)).items()}

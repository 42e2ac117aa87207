"""Which rotary embeddings a config describes, and what in them cannot be; read from config.json alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Config = Mapping[str, Any]

#: The kinds that transformers has tables for (`ROPE_INIT_FUNCTIONS`), and the plain one.
KINDS = ("default", "linear", "dynamic", "yarn", "llama3", "longrope", "proportional")


def rotary_share(config: Config) -> float:
    """Which part of each head is rotated; 1 where the config does not say."""
    named = [table.get("partial_rotary_factor") for table in tables(config)]
    share = next(
        (share for share in (config.get("partial_rotary_factor"), config.get("rotary_pct"), *named) if share), 1
    )
    return float(share) if isinstance(share, (int, float)) else 1.0


def unread_share(config: Config) -> str | None:
    """What is wrong with a share of each head in a class that rotates all of it.

    The plain rotary embedding is the class's own, and a proportional one fills up with zeros; all other kinds give way
    to `partial_rotary_factor` whatever the class.
    """
    share = rotary_share(config)
    kinds = [_kind(table) for table in tables(config)]
    kind = next((kind for kind in kinds if kind not in ("default", "proportional")), None)
    if kind is None or share == 1 or _reads_share(str(config.get("model_type"))):
        return None
    return f"partial_rotary_factor = {share:g} with the rotary embedding {kind}, in a class that rotates whole heads"


@cache
def _reads_share(kind: str) -> bool:
    """Whether the classes of a model type read the share, from their source: importing it takes seconds. True where
    there is none to read.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None or not kind.isidentifier():
        return True
    folder = Path(spec.origin).parent / "models" / kind.removesuffix("_text")
    sources = sorted(folder.glob("modeling_*.py"))
    return not sources or any("partial_rotary_factor" in source.read_text(encoding="utf-8") for source in sources)


def _kind(table: Mapping[str, Any]) -> str:
    kind = str(table.get("rope_type") or table.get("type") or "default")
    return {"su": "longrope", "mrope": "default"}.get(kind, kind)


def tables(config: Config) -> list[Mapping[str, Any]]:
    """The rotary embeddings that a config describes: one, or one for each kind of layer."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        return []
    return [table for table in rope.values() if isinstance(table, Mapping)] or [rope]


def problems(config: Config) -> list[str]:
    """What in the rotary embeddings of a config nobody can make."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        return [f"rope_parameters is not a table but {rope!r}"]
    wrong = [
        f"{key} = {table[key]!r} of the rotary embedding, where a number above 0 is due"
        for table in tables(config)
        for key in ("rope_theta", "factor", "original_max_position_embeddings")
        if table.get(key) is not None and not (isinstance(table[key], (int, float)) and table[key] > 0)
    ]
    return wrong + [
        f"the rotary embedding {kind}, which transformers has no table for"
        for kind in map(_kind, tables(config))
        if kind not in KINDS
    ]


def is_nested(config: Config) -> bool:
    """Whether there is a table for each kind of layer, by its name."""
    rope = config.get("rope_parameters")
    return isinstance(rope, Mapping) and any(isinstance(table, Mapping) for table in rope.values())


def wrong_sections(config: Config, size: int) -> str | None:
    """What is wrong with the parts of time, height and width in heads of `size` numbers: they fill half of them."""
    for table in tables(config):
        sections = table.get("mrope_section")
        half = int(size * rotary_share(config)) // 2
        if isinstance(sections, list) and size and sum(sections) != half:
            return f"mrope_section = {sections}, which are not the {half} pairs of numbers that a head rotates"
    return None

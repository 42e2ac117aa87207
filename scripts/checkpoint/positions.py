"""What a config.json says of positions, said once: transformers takes one of several places and passes over the rest.

Transformers 5 writes `rope_parameters`, with `rope_theta` in it; models' cards tell users to add `rope_scaling`, as
version 4 read it. Where both are there, transformers takes `rope_scaling` alone, and the base of the rotary embedding
falls back to 10,000 without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.checkpoint.plausible import text_settings
from scripts.common.errors import IngotError
from scripts.results.remarks import Remark

_TABLE, _OLDER, _BASE = "rope_parameters", "rope_scaling", "rope_theta"
_ORIGINAL = "original_max_position_embeddings"
#: What older versions called a kind.
_SAME = {"su": "longrope", "mrope": "default"}
_ONE = "Leave the one that the model was trained with"


def settle(path: Path, config: dict[str, Any]) -> list[Remark]:
    """Put what a parsed config.json says of positions into one place; returns what there is to say.

    Raises `IngotError` where it says two things, or a factor of no kind.
    """
    settings = text_settings(config)
    said = _drop_nulls(path, settings)
    tables = {key: settings[key] for key in (_TABLE, _OLDER) if isinstance(settings.get(key), dict) and settings[key]}
    if any(isinstance(value, dict) for table in tables.values() for value in table.values()):
        return []  # a table for each kind of layer
    kinds = {key: _kind(path, key, table) for key, table in tables.items()}
    scaled = {key: kind for key, kind in kinds.items() if kind != "default"}
    if len(set(scaled.values())) > 1:
        found = " and ".join(f"{key} {kind}" for key, kind in scaled.items())
        raise IngotError(path, f"positions are scaled in two ways, {found}", _ONE)
    bases = {
        name: value
        for name, value in {
            **{f"{key}.{_BASE}": table.get(_BASE) for key, table in tables.items()}, _BASE: settings.get(_BASE),
        }.items()
        if isinstance(value, (int, float))
    }  # fmt: skip
    if len(set(bases.values())) > 1:
        found = ", but ".join(f"{name} is {value}" for name, value in bases.items())
        raise IngotError(path, found, _ONE)
    if len(tables) > 1:
        merged = {**tables[_TABLE], **tables[_OLDER], "rope_type": next(iter(scaled.values()), "default")}
        merged.pop("type", None)
        settings[_TABLE] = merged | ({_BASE: next(iter(bases.values()))} if bases else {})
        del settings[_OLDER]
        what = f"{_OLDER} ({merged['rope_type']}) is put into {_TABLE}, of which transformers would drop the rest"
        said.append(Remark(path.name, what))
    if "dynamic" in kinds.values():
        limit = settings.get("max_position_embeddings", "its")
        what = f"positions are scaled (dynamic) beyond {limit} tokens alone, where a package ends"
        said.append(Remark(path.name, what))
    return said


def _drop_nulls(path: Path, settings: dict[str, Any]) -> list[Remark]:
    """Take out of a table what it says nothing of, and the table if that is all of it."""
    said = []
    for key in (_TABLE, _OLDER):
        table = settings.get(key)
        if isinstance(table, dict) and (empty := [name for name, value in table.items() if value is None]):
            settings[key] = {name: value for name, value in table.items() if value is not None}
            if not settings[key]:
                del settings[key]
            said.append(Remark(path.name, f"{key} is null in {' and '.join(empty)}: left out"))
    return said


def check_original(path: Path, config: dict[str, Any], model: Any) -> None:
    """Raise `IngotError` where a table names another original context than transformers takes, which lets a key outside
    of the table, or its default, go first. `model`: what transformers made of it.
    """
    taken = getattr(model.config.get_text_config(), _ORIGINAL, None)
    for key in (_TABLE, _OLDER):
        table = text_settings(config).get(key)
        said = table.get(_ORIGINAL) if isinstance(table, dict) else None
        if None not in (said, taken) and said != taken:
            found = f"{key}.{_ORIGINAL} is {said}, but {type(model).__name__} takes {taken}"
            raise IngotError(path, found, f"Say {_ORIGINAL} beside {key}, as the model was trained with")


def assumed(path: Path, config: dict[str, Any], model: Any) -> list[Remark]:
    """What a class's own values stand for because a config.json does not say: the base of positions, a norm's epsilon.

    `model`: what transformers made of it.
    """
    settings, text = text_settings(config), model.config.get_text_config()
    table = getattr(text, _TABLE, None) or {}
    missing: dict[str, Any] = {}
    stated = {key for name in (_TABLE, _OLDER) for key in _keys(settings.get(name))} | set(settings)
    if isinstance(table, Mapping) and _BASE in table and _BASE not in stated:
        missing[_BASE] = table[_BASE]
    for key in ("rms_norm_eps", "layer_norm_eps"):
        if hasattr(text, key) and key not in settings:
            missing[key] = getattr(text, key)
    if not missing:
        return []
    listed = ", ".join(f"{key} {value}" for key, value in missing.items())
    return [Remark(path.name, f"does not say {' and '.join(missing)}: the class's own are assumed ({listed})")]


def _keys(table: object) -> set[str]:
    if not isinstance(table, dict):
        return set()
    return set(table).union(*(_keys(value) for value in table.values()))


def _kind(path: Path, key: str, table: Mapping[str, Any]) -> str:
    said = {name: _SAME.get(str(table[name]), str(table[name])) for name in ("rope_type", "type") if table.get(name)}
    if len(set(said.values())) > 1:
        raise IngotError(path, f"{key} has rope_type {said['rope_type']} and type {said['type']}", _ONE)
    kind = next(iter(said.values()), "default")
    if not said and table.get("factor") not in (None, 1, 1.0):
        found = f"{key} has a factor of {table['factor']} and no rope_type: transformers would pass over it"
        raise IngotError(path, found, 'Say which scaling it is, as "rope_type": "linear"')
    return kind

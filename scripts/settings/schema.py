"""The JSON schemas of models.toml and recipes.toml, for editors: made of the definitions by which they are read.

    python -m scripts.settings.schema      writes config/models.schema.json and config/recipes.schema.json

A TOML file names its schema in a comment on its first line, `#:schema models.schema.json`, as Taplo and "Even Better
TOML" read it. What a schema can't say, such as whether a file is there, is told by `doit` and `doit doctor`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from scripts.common import json_files
from scripts.definitions.passes import PASSES, olive_config
from scripts.settings.recipes import PROJECT_CONFIG, RecipeTable
from scripts.settings.tables import SOURCES, ModelsFile

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"


def models() -> dict[str, Any]:
    """The schema of models.toml."""
    return _whole("models.toml: what to build", ModelsFile, list(SOURCES.values()))


def recipes() -> dict[str, Any]:
    """The schema of recipes.toml: a table for each precision."""
    schema = _whole("recipes.toml: what a precision means", RecipeTable, [])
    schema["$defs"] |= _passes()
    schema["$defs"]["RecipeTable"]["oneOf"] = [{"required": ["passes"]}, {"required": ["olive"]}]
    return {key: value for key, value in schema.items() if key != "$ref"} | {
        "type": "object", "additionalProperties": {"$ref": schema["$ref"]},
    }  # fmt: skip


def write() -> None:
    """Write both beside the project's own TOML files."""
    json_files.write(PROJECT_CONFIG / "models.schema.json", models())
    json_files.write(PROJECT_CONFIG / "recipes.schema.json", recipes())


def _whole(title: str, kind: type[Struct], more: list[type[Struct]]) -> dict[str, Any]:
    (top, *_), parts = msgspec.json.schema_components([kind, *more], ref_template=_REF)
    parts = {name: _without_null(part) for name, part in parts.items()}
    return {"$schema": _DRAFT, "title": title, **top, "$defs": dict(sorted(parts.items()))}


def _passes() -> dict[str, Any]:
    """A pass by its type: Ingot's with their options; of Olive's own only the names are known here."""
    _, parts = msgspec.json.schema_components(list(PASSES.values()), ref_template=_REF)
    found: dict[str, Any] = {}
    for name, part in parts.items():
        if name != "ModelBuilder":  # it starts from the checkpoint, and these from the export
            properties = {"type": {"const": name}, **part["properties"]}
            found[name] = _without_null({**part, "properties": properties, "required": ["type"]})
    others = sorted(set(olive_config()["passes"]) - PASSES.keys())
    found["OlivePass"] = {
        "title": "A pass of Olive's own", "description": "its options are checked when it runs", "type": "object",
        "properties": {"type": {"enum": others}}, "required": ["type"],
    }  # fmt: skip
    return {**found, "Pass": {"anyOf": [{"$ref": _REF.format(name=name)} for name in found]}}


def _without_null(value: Any) -> Any:
    """TOML has no null: a key that may be absent is not one whose value may be null, nor has such a default."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _without_null(item) for key, item in value.items() if not (key == "default" and _says_nothing(item))}
    kinds = [kind for kind in found.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1 and len(kinds) < len(found["anyOf"]):
        del found["anyOf"]
        return {**kinds[0], **found}
    return found


def _says_nothing(default: Any) -> bool:
    return default is None or (isinstance(default, dict) and not [v for v in default.values() if not _says_nothing(v)])


if __name__ == "__main__":
    write()

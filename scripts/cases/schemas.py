"""JSON schemas of users: checked once, whole where they are read, and never fetching what they refer to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from scripts.common.errors import IngotError


def validator(schema: Any) -> jsonschema.protocols.Validator:
    """Of a schema that was checked: by its own `$schema`, else draft 2020-12."""
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return kind(schema, registry=Registry())  # type: ignore[call-arg,unused-ignore]


def check(schema: Any, place: object) -> None:
    """Raise `IngotError` naming `place` for what is not a JSON schema, or refers to what is not in it."""
    dialect = schema.get("$schema", "") if isinstance(schema, dict) else ""
    if not isinstance(schema, dict | bool) or not isinstance(dialect, str):
        raise IngotError(place, "is not a JSON schema: an object is due, whose $schema is text", "Correct the schema")
    try:
        validator(schema).check_schema(schema)  # type: ignore[arg-type,unused-ignore]
        resource = Resource.from_contents(schema, default_specification=DRAFT202012)
        here = resource.id() or ""
        resolver = Registry().with_resource(here, resource).crawl().resolver(here)
        broken = next((ref for ref in dict.fromkeys(_refs(schema)) if not _resolves(resolver, ref)), None)
    except jsonschema.exceptions.SchemaError as error:
        raise IngotError(place, f"is not a JSON schema: {error.message[:200]}", "Correct the schema") from None
    except (ValueError, TypeError) as error:  # such as an $id that is not an address
        raise IngotError(place, f"is not a JSON schema: {str(error)[:200]}", "Correct the schema") from None
    if broken is not None:
        raise IngotError(place, f"refers to {broken!r}, which is not in it", "Write that part into it")


def _resolves(resolver: Any, ref: str) -> bool:
    try:
        resolver.lookup(ref)
    except (Unresolvable, ValueError, TypeError, LookupError, AttributeError):  # a pointer into a text or a number
        return False
    return True


def _refs(value: Any) -> Iterator[str]:
    """Every reference in a schema, however deep."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key in ("$ref", "$dynamicRef") and isinstance(item, str):
            yield item
        else:
            yield from _refs(item)

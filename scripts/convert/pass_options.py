"""The options of Ingot's passes in Olive's words. Measured with olive-ai 0.13.0; importing this imports Olive."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from msgspec import NODEFAULT, Struct, structs
from olive.passes.olive_pass import PassConfigParam

from scripts.common.typed import bare, fields


def parameters(definition: type[Struct]) -> dict[str, PassConfigParam]:
    """The options of a pass, by name."""
    return {field.name: _parameter(field, fields(definition)[field.name]) for field in structs.fields(definition)}


def _parameter(field: structs.FieldInfo, kind: Any) -> PassConfigParam:
    kind, metas = bare(kind)
    default = None if field.default is NODEFAULT else field.default
    if field.default_factory is not NODEFAULT:
        default = field.default_factory()
    return PassConfigParam(
        type_=type(get_args(kind)[0]) if get_origin(kind) is Literal else kind,
        default_value=default,
        required=field.required,
        description=next((meta.description for meta in metas if meta.description), field.name),
    )

"""The registry of metrics. An entry stands where the figure is defined, as the annotation of its field:

    tg128: Annotated[Positive | None, metric("decode rate", "{:.1f}", unit="tokens/s", better=1, timed=True)]

and is all that is said of the metric anywhere: what it is called, how it is written, in which column it stands, which
gate holds it, when two values of it differ. The table, the page, report.md, the changes since the accepted report,
the gates and the JSON schema are made from it. To add a metric is to add its field, and the line that measures it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple, get_type_hints

import msgspec
from msgspec import Struct


class Column(NamedTuple):
    """A column of the table of precisions.

    `rank`: where there is no room for all, those of the highest rank go first. `group`: the heading above it on the
    page, where it is left out if there is none. `beside`: what is told small below the figure: a field of the same
    object, and the words around it.
    """

    head: str
    rank: int
    group: str = ""
    beside: tuple[str, str] | None = None


class Metric(NamedTuple):
    """What is known of a figure; see `metric`."""

    name: str
    label: str
    form: str
    factor: float
    unit: str
    better: int
    floor: float | None
    floor_is_share: bool
    timed: bool
    noise_of: str
    gate: str
    warns: str
    loses: str
    column: Column | None
    description: str


def metric(
    label: str, form: str = "{:g}", *, factor: float = 1, unit: str = "", better: int = 0, floor: float | None = None,
    floor_is_share: bool = False, timed: bool = False, noise_of: str = "", gate: str = "", warns: str = "",
    loses: str = "", column: Column | None = None, description: str = "",
) -> msgspec.Meta:  # fmt: skip
    """The entry of a metric, to annotate its field with.

    `form` writes the value times `factor`; an empty one writes bytes in the unit that fits. `unit`: of the value.
    `better`: 1 where more is, -1 where less is. `floor`: of a figure that is the same whenever it is computed; it
    changed where it left its interval (the field `<name>_interval`) and differs by more than this, or by more than
    this share of it. `timed`: it differs from run to run, and changed where it differs by more than the noise that
    either run measured, of this metric or of `noise_of`. `gate`, `warns`: the gates of models.toml that refuse and
    that warn; `loses`: the one of what is lost against the float export. `column`: where the figure stands in the
    table of precisions. The unit becomes part of the description.
    """
    told = (description or label[:1].upper() + label[1:]) + (f", {unit}" if unit else "")
    entry = Metric(
        "", label, form, factor, unit, better, floor, floor_is_share, timed, noise_of, gate, warns, loses, column,
        description,
    )  # fmt: skip
    return msgspec.Meta(description=told, extra={"metric": entry})


@functools.cache
def of(kind: type[Struct]) -> dict[str, Metric]:
    """The metrics among the fields of a struct, by the name of the field, in order."""
    hints = get_type_hints(kind, include_extras=True)
    fields = msgspec.structs.fields(kind)
    return {field.encode_name: found._replace(name=field.encode_name)
            for field in fields if (found := _entry(hints[field.name]))}  # fmt: skip


def registry(kinds: Iterable[type[Struct]]) -> dict[str, Metric]:
    """All metrics of several structs. A name means the same wherever it stands."""
    found: dict[str, Metric] = {}
    for kind in kinds:
        for name, entry in of(kind).items():
            known = found.setdefault(name, entry)
            assert known == entry, f"two metrics are called {name}"
    return found


def _entry(hint: Any) -> Metric | None:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and (found := (meta.extra or {}).get("metric")):
            return found if isinstance(found, Metric) else None
    return None

"""How figures are written: the same in every form of the report, by the entry of their metric in the registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scripts.results.report import METRICS

#: Stands where something was not measured.
NONE = "-"
#: What people call what is not a metric and may change.
_LABELS = {
    "recommended": "recommended precision", "performance": "speed and memory", "performance_full": "bench-full",
    "domain": "domain cases",
}  # fmt: skip
#: Figures that are no metrics: a format, and what the value is multiplied with.
_FORMS: dict[str, tuple[str, float]] = {
    "share": ("{:.1f}%", 100), "ratio": ("{:.2f}×", 1), "seconds": ("{:.0f} s", 1), "exponent": ("{:.2f}", 1),
    "count": ("{:d}", 1), "kilobytes": ("{:.2f} kB", 1e-3), "percent": ("{:.0f}%", 1),
}  # fmt: skip
_UNITS = {"GB": (1e9, "{:.2f}"), "MB": (1e6, "{:.1f}"), "kB": (1e3, "{:.1f}")}


def size(value: float | None, unit: str = "") -> str:
    """Bytes in GB (10^9), MB or kB: in `unit`, else in the largest of which there is at least one."""
    if value is None:
        return NONE
    name = unit or next((name for name, (by, _) in _UNITS.items() if value >= by), "kB")
    by, form = _UNITS[name]
    return f"{form.format(value / by)} {name}"


def common_unit(values: Iterable[float | None]) -> str:
    """The unit in which sizes that stand in one column are all written: MB, unless all are small or one is huge."""
    largest = max((value for value in values if value is not None), default=0)
    return "GB" if largest >= 1e10 else "MB" if largest >= 1e6 else "kB"


def is_size(metric: str) -> bool:
    """Whether a figure is a number of bytes."""
    return metric.endswith("_bytes")


def typical(value: Any) -> Any:
    """What stands for a figure in a table: of percentiles the median."""
    return value.get("p50") if isinstance(value, dict) else value


def label(metric: str) -> str:
    """What people call a metric; "tg128 at 512 tokens" keeps its end."""
    name, at, rest = metric.partition(" at ")
    return (METRICS[name].label if name in METRICS else _LABELS.get(name, name)) + at + rest


def figure(metric: str, value: Any, unit: str = "") -> str:
    """A value as that metric is written; text, lists and unknown metrics as they are. `unit`: of a size."""
    name = metric.partition(" at ")[0]
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if is_size(name):
        return size(value, unit)
    if name in METRICS:
        form, factor = METRICS[name].form, METRICS[name].factor
    elif name in _FORMS:
        form, factor = _FORMS[name]
    else:
        return f"{value:g}"
    return form.format(value if factor == 1 else value * factor)

"""The verdict that a figure earns by its gate (`scripts.definitions.gates`). Only a gate that is given refuses.

Which figure a gate holds, and whether it is a least or a most, is said where the metric is defined (`results.quality`
and `results.domain`): `kl` refuses above a KL, `kl_warn` warns above it, `top1` refuses below an agreement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from msgspec import Struct

from scripts.results import metric
from scripts.results.base import Verdict
from scripts.results.metric import Metric
from scripts.results.quality import Text

#: From best to worst; a whole is as good as its worst part.
VERDICTS: tuple[Verdict, ...] = ("passed", "warned", "skipped", "refused", "failed")


class Judged(Protocol):
    """Any result: a verdict and the reasons for it."""

    @property
    def verdict(self) -> Verdict: ...

    @property
    def reasons(self) -> list[str]: ...


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of `verdicts`; "passed" where there is none."""
    return max(verdicts, key=VERDICTS.index, default="passed")


def because(results: Iterable[Judged], verdict: Verdict) -> list[str]:
    """The reasons of those results that made the whole `verdict`: no warning explains a refusal."""
    telling = [result for result in results if result.verdict == verdict != "passed"]
    return list(dict.fromkeys(reason for result in telling for reason in result.reasons))


def judge(texts: Mapping[str, Text], gates: Mapping[str, float]) -> tuple[Verdict, list[str]]:
    """Verdict and reasons for the figures of each text (see `Tally.figures`), each reason with figure and gate.

    The figure itself is what decides. Where it passes and its 95 % interval reaches beyond the gate, another text of
    the kind could be refused: that is a warning. Where it is refused and the interval reaches back, it is told.
    """
    refused: list[str] = []
    warned: list[str] = []
    for name, text in texts.items():
        if text.error:
            refused.append(f"{name}: {text.error}")
            continue
        for gate in _GATES:
            figure = getattr(text, gate.metric.name)
            if gate.name not in gates or (gate.verdict == "warned" and _is_refused(gate.metric, figure, gates)):
                continue
            verdict, reason = _judge(gate, text, gates[gate.name])
            if verdict != "passed":
                (refused if verdict == "refused" else warned).append(f"{name}: {reason}")
    return ("refused" if refused else "warned" if warned else "passed"), refused + warned


class _Gate(NamedTuple):
    """One gate: the metric that it holds, and what breaking it costs."""

    name: str
    metric: Metric
    verdict: Verdict


def _of(kind: type[Struct]) -> list[_Gate]:
    """The gates of the metrics that a result holds."""
    entries = metric.of(kind).values()
    refusing = [_Gate(entry.gate, entry, "refused") for entry in entries if entry.gate]
    return refusing + [_Gate(entry.warns, entry, "warned") for entry in entries if entry.warns]


_GATES = _of(Text)


def _breaks(entry: Metric, value: float, limit: float) -> bool:
    return value < limit if entry.better > 0 else value > limit


def _is_refused(entry: Metric, value: float | None, gates: Mapping[str, float]) -> bool:
    return value is not None and entry.gate in gates and _breaks(entry, value, gates[entry.gate])


def _judge(gate: _Gate, text: Text, limit: float) -> tuple[Verdict, str]:
    entry = gate.metric
    value = getattr(text, entry.name)
    label = entry.label
    if value is None:
        return "warned", f"{label} cannot be judged: the float model is sure of no position"
    low, high = getattr(text, f"{entry.name}_interval", None) or (value, value)
    spans = low < limit < high
    unit = f" {entry.unit}" if entry.unit else ""
    what, found = "warning level" if gate.verdict == "warned" else "gate", f"{label} {value:.4g}{unit}"
    interval = f"its 95 % interval, {low:.4g} to {high:.4g}"
    if _breaks(entry, value, limit):
        reason = f"{found} is {'below' if entry.better > 0 else 'above'} the {what} of {limit:g}"
        return gate.verdict, reason + (f", but {interval}, spans it" if spans and gate.verdict == "refused" else "")
    if spans and gate.verdict == "refused":
        return "warned", f"{found} keeps to the {what} of {limit:g}, but {interval}, spans it"
    return "passed", ""

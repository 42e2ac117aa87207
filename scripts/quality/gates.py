"""The verdict that a figure earns by its gate (`scripts.definitions.gates`). Only a gate that is given refuses.

kl                 mean KL(float ‖ other) of the worst text, nats, at most      → refused
kl_warn            the same, at most                                            → warned
kl_p99             99th percentile of KL over positions, nats, at most          → refused
top1               top-1 agreement where the float model is sure, at least      → refused
perplexity_ratio   perplexity over the float model's, at most                   → refused
domain_points      points of the domain score below the float export, at most   → refused
domain_floor       the domain score itself, in percent, at least                → refused
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

#: From best to worst; a whole is as good as its worst part.
VERDICTS = ("passed", "warned", "skipped", "refused", "failed")


def worst(verdicts: Iterable[str]) -> str:
    """The worst of `verdicts`; "passed" where there is none."""
    return max(verdicts, key=VERDICTS.index, default="passed")


def because(results: Iterable[Mapping[str, Any]], verdict: str) -> list[str]:
    """The reasons of those results that made the whole `verdict`: no warning explains a refusal."""
    telling = [result for result in results if result["verdict"] == verdict != "passed"]
    return list(dict.fromkeys(reason for result in telling for reason in result["reasons"]))


def judge(texts: Mapping[str, Mapping[str, Any]], gates: Mapping[str, float]) -> tuple[str, list[str]]:
    """Verdict and reasons for the figures of each text (see `Tally.figures`), each reason with figure and gate.

    The figure itself is what decides. Where it passes and its 95 % interval reaches beyond the gate, another text of
    the kind could be refused: that is a warning. Where it is refused and the interval reaches back, it is told.
    """
    refused: list[str] = []
    warned: list[str] = []
    for name, text in texts.items():
        if text.get("error"):
            refused.append(f"{name}: {text['error']}")
            continue
        for gate in _GATES:
            if gate.name not in gates or (gate.name == "kl_warn" and text["kl"] > gates.get("kl", float("inf"))):
                continue
            verdict, reason = _judge(gate, text, gates[gate.name])
            if verdict != "passed":
                (refused if verdict == "refused" else warned).append(f"{name}: {reason}")
    return ("refused" if refused else "warned" if warned else "passed"), refused + warned


class _Gate(NamedTuple):
    """One gate: the figure that it holds, how it is called, its unit, whether it is a least value, what it costs."""

    name: str
    figure: str
    label: str
    unit: str = ""
    least: bool = False
    verdict: str = "refused"


_GATES = (
    _Gate("kl", "kl", "KL", " nats"),
    _Gate("kl_warn", "kl", "KL", " nats", verdict="warned"),
    _Gate("kl_p99", "kl_p99", "KL p99", " nats"),
    _Gate("top1", "top1", "top-1 agreement", least=True),
    _Gate("perplexity_ratio", "perplexity_ratio", "perplexity ratio"),
)


def _judge(gate: _Gate, text: Mapping[str, Any], limit: float) -> tuple[str, str]:
    value = text[gate.figure]
    if value is None:
        return "warned", f"{gate.label} cannot be judged: the float model is sure of no position"
    low, high = text.get(f"{gate.figure}_interval") or (value, value)
    broken, spans = (value < limit if gate.least else value > limit), low < limit < high
    what, found = "warning level" if gate.verdict == "warned" else "gate", f"{gate.label} {value:.4g}{gate.unit}"
    interval = f"its 95 % interval, {low:.4g} to {high:.4g}"
    if broken:
        reason = f"{found} is {'below' if gate.least else 'above'} the {what} of {limit:g}"
        return gate.verdict, reason + (f", but {interval}, spans it" if spans and gate.verdict == "refused" else "")
    if spans and gate.verdict == "refused":
        return "warned", f"{found} keeps to the {what} of {limit:g}, but {interval}, spans it"
    return "passed", ""

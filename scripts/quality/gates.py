"""Gates: what is asked of a model, and the verdict that a figure earns. Only a gate that is given refuses.

kl                 mean KL(float ‖ other) of the worst text, nats, at most      → refused
kl_warn            the same, at most                                            → warned
top1               top-1 agreement where the float model is sure, at least      → refused
perplexity_ratio   perplexity over the float model's, at most                   → refused
domain_points      points of the domain score below the float export, at most   → refused
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scripts.engine.errors import IngotError
from scripts.engine.tables import suggest

NAMES = ("kl", "kl_warn", "kl_p99", "top1", "perplexity_ratio", "domain_points")

#: From best to worst; a whole is as good as its worst part.
VERDICTS = ("passed", "warned", "skipped", "refused", "failed")


def parse(values: Any) -> dict[str, float]:
    """Check a table of gates. Raises `IngotError` on an unknown name or a value that is no number ≥ 0."""
    if not isinstance(values, Mapping):
        raise IngotError("--gates", f"expected a JSON object, found {values!r}", 'Write it as {"kl": 0.25}')
    for name, value in values.items():
        if name not in NAMES:
            raise IngotError(f"gates: {name}", "unknown gate", suggest(str(name), NAMES))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise IngotError(f"gates: {name}", f"expected a number of at least 0, found {value!r}")
    return {name: float(value) for name, value in values.items()}


def worst(verdicts: Iterable[str]) -> str:
    """The worst of `verdicts`; "passed" where there is none."""
    return max(verdicts, key=VERDICTS.index, default="passed")


def because(results: Iterable[Mapping[str, Any]], verdict: str) -> list[str]:
    """The reasons of those results that made the whole `verdict`: no warning explains a refusal."""
    telling = [result for result in results if result["verdict"] == verdict != "passed"]
    return list(dict.fromkeys(reason for result in telling for reason in result["reasons"]))


def judge(texts: Mapping[str, Mapping[str, Any]], gates: Mapping[str, float]) -> tuple[str, list[str]]:
    """Verdict and reasons for the figures of each text (see `compare.figures`), each reason with figure and gate."""
    refused, warned = [], []
    for name, text in texts.items():
        if text.get("error"):
            refused.append(f"{name}: {text['error']}")
            continue
        if "kl" in gates and text["kl"] > gates["kl"]:
            refused.append(f"{name}: KL {text['kl']:.4g} nats is above the gate of {gates['kl']:g}")
        elif "kl_warn" in gates and text["kl"] > gates["kl_warn"]:
            warned.append(f"{name}: KL {text['kl']:.4g} nats is above the warning level of {gates['kl_warn']:g}")
        if "kl_p99" in gates and text["kl_p99"] > gates["kl_p99"]:
            refused.append(f"{name}: KL p99 {text['kl_p99']:.4g} nats is above the gate of {gates['kl_p99']:g}")
        if "top1" in gates:
            if text["top1"] is None:
                warned.append(f"{name}: top-1 agreement cannot be judged: the float model is sure of no position")
            elif text["top1"] < gates["top1"]:
                refused.append(f"{name}: top-1 agreement {text['top1']:.4g} is below the gate of {gates['top1']:g}")
        if "perplexity_ratio" in gates and text["perplexity_ratio"] > gates["perplexity_ratio"]:
            ratio, gate = text["perplexity_ratio"], gates["perplexity_ratio"]
            refused.append(f"{name}: perplexity ratio {ratio:.4g} is above the gate of {gate:g}")
    return ("refused" if refused else "warned" if warned else "passed"), refused + warned

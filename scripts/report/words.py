"""How figures are written: the same in every form of the report."""

from __future__ import annotations

from typing import Any

#: Stands where something was not measured.
NONE = "-"
#: Metric → what people call it.
LABELS = {
    "kl": "KL", "kl_p99": "KL p99", "top1": "top-1 agreement", "perplexity_ratio": "perplexity ratio",
    "size_bytes": "size", "tg128": "decode rate", "pp512": "prefill rate", "time_to_first_token_ms":
    "time to first token", "inter_token_latency_ms": "inter-token latency", "request_latency_ms": "request latency",
    "peak_rss_bytes": "peak RSS", "steady_rss_bytes": "steady RSS", "cpu_seconds_per_token": "CPU time a token",
    "prefill_tokens_per_second": "prefill rate", "decode_tokens_per_second": "decode rate",
    "recommended": "recommended precision", "performance": "speed and memory", "performance_full": "bench-full",
    "domain": "domain cases",
}  # fmt: skip
#: The last part of a figure's name → how it is written: a format, and what the value is multiplied with.
FORMS: dict[str, tuple[str, float]] = {
    "kl": ("{:.2g}", 1), "kl_p99": ("{:.2g}", 1), "top1": ("{:.1f}%", 100), "top1_all": ("{:.1f}%", 100),
    "perplexity_ratio": ("{:.3f}", 1), "perplexity": ("{:.2f}", 1), "score": ("{:.1f}%", 1),
    "schema_valid": ("{:.1f}%", 1), "share": ("{:.1f}%", 100), "size_ratio": ("{:.2f}×", 1), "ratio": ("{:.2f}×", 1),
    "tg128": ("{:.1f}", 1), "pp512": ("{:.0f}", 1), "decode_tokens_per_second": ("{:.1f}", 1),
    "prefill_tokens_per_second": ("{:.0f}", 1), "output_tokens_per_second": ("{:.1f}", 1),
    "time_to_first_token_ms": ("{:.0f} ms", 1), "request_latency_ms": ("{:.0f} ms", 1),
    "inter_token_latency_ms": ("{:.1f} ms", 1), "load_seconds": ("{:.2f} s", 1), "seconds": ("{:.0f} s", 1),
    "cpu_seconds_per_token": ("{:.1f} ms", 1000), "exponent": ("{:.2f}", 1), "count": ("{:d}", 1),
    "kilobytes": ("{:.2f} kB", 1e-3),
}  # fmt: skip


def size(value: float | None) -> str:
    """Bytes as MB (10^6), or GB."""
    if value is None:
        return NONE
    for unit, name, form in ((1e9, "GB", "{:.2f}"), (1e6, "MB", "{:.1f}")):
        if value >= unit:
            return f"{form.format(value / unit)} {name}"
    return f"{value / 1e3:.1f} kB"


def label(metric: str) -> str:
    """What people call a metric; "tg128 at 512 tokens" keeps its end."""
    name, at, rest = metric.partition(" at ")
    return LABELS.get(name, name) + at + rest


def figure(metric: str, value: Any) -> str:
    """A value as that metric is written; text, lists and unknown metrics as they are."""
    name = metric.partition(" at ")[0]
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if name.endswith("_bytes"):
        return size(value)
    if name not in FORMS:
        return f"{value:g}"
    form, factor = FORMS[name]
    return form.format(value if factor == 1 else value * factor)

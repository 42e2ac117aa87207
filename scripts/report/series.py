"""What the report's charts draw: plain rows from the dict of report.json, a row a mark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def pareto(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each precision whose size and KL are known: size in MB, KL in nats, decode rate, its place.

    `front`: no other is at least as good in size, KL and rate, and better in one. A rate that was not measured counts
    as neither. `edge`: the same for size and KL alone, which is the line that is drawn.
    """
    rows = []
    for row in model["precisions"]:
        quality, speed = row["quality"] or {}, row["performance"] or {}
        if row["size_bytes"] and quality.get("kl") is not None:
            rows.append({
                "name": row["precision"], "size": row["size_bytes"] / 1e6, "kl": quality["kl"], "rate":
                speed.get("tg128"), "verdict": row["verdict"], "recommended": row["precision"] == model["recommended"],
            })  # fmt: skip
    for row in rows:
        row["front"] = not any(_beats(other, row, ("size", "kl", "rate")) for other in rows)
        row["edge"] = not any(_beats(other, row, ("size", "kl")) for other in rows)
    return sorted(rows, key=lambda row: row["size"])


def _beats(one: Mapping[str, Any], other: Mapping[str, Any], keys: Iterable[str]) -> bool:
    pairs = [(one[key], other[key]) if key != "rate" else (other[key], one[key]) for key in keys]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return all(a <= b for a, b in known) and any(a < b for a, b in known)


def context_rows(model: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """Of bench-full, a metric's median (and p90) by prompt length, for each precision that has it."""
    return [
        {"name": row["precision"], "x": context["prompt_tokens"], "y": context[metric]["p50"],
         "high": context[metric].get("p90")}
        for row in model["precisions"]
        for context in (row["performance_full"] or {}).get("contexts") or []
        if (context.get(metric) or {}).get("p50") is not None
    ]  # fmt: skip


def latencies(row: Mapping[str, Any]) -> tuple[list[float], str]:
    """Inter-token latencies of a precision in milliseconds, piece by piece, and the measurement that they come from."""
    if full := (row["performance_full"] or {}).get("inter_token_latency_samples_ms"):
        return [float(value) for value in full], "bench-full"
    requests = ((row["performance"] or {}).get("samples") or {}).get("requests") or []
    gaps = [
        later - earlier
        for request in requests
        for earlier, later in zip(request["at_ms"], request["at_ms"][1:], strict=False)
    ]
    return gaps, "bench"


def histogram(values: Sequence[float], low: float, high: float, bins: int) -> list[dict[str, float]]:
    """Shares of `values` in equal bins from `low` to `high`; what lies beyond counts in the outermost bins."""
    counts, step = [0] * bins, (high - low) / bins
    for value in values:
        counts[min(max(int((value - low) / step), 0), bins - 1)] += 1
    return [
        {"from": low + i * step, "to": low + (i + 1) * step, "share": count / len(values)}
        for i, count in enumerate(counts)
    ]


def latency_rows(model: Mapping[str, Any], bins: int = 60) -> list[dict[str, Any]]:
    """Histogram bars for each precision that has latencies, over one common range: to the largest 99th percentile."""
    found = {row["precision"]: sorted(latencies(row)[0]) for row in model["precisions"]}
    found = {name: values for name, values in found.items() if values}
    if not found:
        return []
    low = min(values[0] for values in found.values())
    high = max(values[math.floor(0.99 * (len(values) - 1))] for values in found.values())
    high = max(high, low + 1e-6)
    return [
        {"name": name, "median": values[len(values) // 2], **bar}
        for name, values in found.items()
        for bar in histogram(values, low, high, bins)
    ]


def soak_rows(model: Mapping[str, Any], most: int = 240) -> list[dict[str, Any]]:
    """RSS in MB over requests, at most so many points a precision, and the fitted line through their middle."""
    rows = []
    for row in model["precisions"]:
        soak = row["soak"] or {}
        points = soak.get("rss") or []
        if not points:
            continue
        slope = soak.get("slope_bytes_per_request")
        centre = [sum(point[key] for point in points) / len(points) for key in ("request", "bytes")]
        for point in points[:: max(1, math.ceil(len(points) / most))]:
            fit = None if slope is None else (centre[1] + slope * (point["request"] - centre[0])) / 1e6
            rows.append({"name": row["precision"], "x": point["request"], "y": point["bytes"] / 1e6, "fit": fit})
    return rows


def position_rows(model: Mapping[str, Any], text: str) -> list[dict[str, Any]]:
    """KL over the position in `text`, in the middle of each bucket, for each precision that has it."""
    return [
        {"name": row["precision"], "x": (bucket["from"] + bucket["to"]) / 2, "y": max(bucket["kl"], 1e-9)}
        for row in model["precisions"]
        for bucket in (((row["quality"] or {}).get("texts") or {}).get(text) or {}).get("kl_by_position") or []
        if bucket["kl"] is not None
    ]

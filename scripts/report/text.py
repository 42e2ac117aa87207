"""The report as text, for a terminal and a pull request: pure functions from the dict of report.json.

No number here that is not in there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.report.words import NONE, figure, label, size
from scripts.results.report import KINDS

HEAD = (
    *("precision", "size", "of float", "decode", "prefill", "TTFT", "peak RSS"),
    *("KL", "top-1", "ppl ratio", "domain", "verdict", "deployed as"),
)
LEGEND = (
    "Size: the ONNX folder, and its share of the float export's. Decode (tg128) and prefill (pp512): tokens a second. "
    "TTFT: median time to first token. KL (nats), top-1 agreement, perplexity ratio: the float export against the "
    "checkpoint, the precisions against the float export; the worst text counts. Domain: cases passed. "
    f"{NONE}: not measured."
)


#: Measurements outside the default build: field of a precision, task, what people call it.
EXTRAS = (("performance_full", "bench-full", "bench-full"), ("soak", "soak", "soak"), ("edges", "edges", "edge cases"))


def headline(model: dict[str, Any]) -> str:
    """The verdict on a model in one sentence."""
    name, chosen = model["name"], model["recommended"]
    if chosen is None:
        return f"{name}: no precision can be recommended"
    row = next((row for row in model["precisions"] if row["precision"] == chosen), None)
    deployed = row and row["deployed"]
    if not deployed:
        return f"{name}: {chosen} is recommended; it is not deployed"
    how = "verified" if deployed["verified"] else "not verified"
    return f"{name}: {chosen} is recommended, deployed as {deployed['id']}, {how}"


def rows(model: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table of a model as text, a cell for each of `HEAD`: the float export first, then every precision."""
    export = {"precision": "float", "size_ratio": None, "performance": None, "deployed": None, **model["export"]}
    if export["size_bytes"]:
        export["size_ratio"] = 1.0
    return [_row(entry) for entry in (export, *model["precisions"])]


def markdown(report: dict[str, Any]) -> str:
    """The whole report, fit for a pull request: the verdict, the table, what changed; the rest folded away."""
    parts = ["# Report", ""]
    for model in report["models"]:
        parts += [f"**{_escape(headline(model))}.**", "", *(f"- {_escape(reason)}" for reason in model["reasons"]), ""]
    if told := changed(report["changes"]):
        parts += [_escape(told[0]), "", *(f"- {_escape(line)}" for line in told[1:]), ""]
    for model in report["models"]:
        parts += [f"## {_escape(model['name'])}", "", _line(HEAD), _line(["---"] + ["---:"] * 10 + ["---"] * 2)]
        parts += [_line(_escape(cell) for cell in row) for row in rows(model)]
        told = [*notes(model), *extras(model)]
        parts += ["", *(f"- {_escape(note)}" for note in told), ""]
        if failed := failures(model):
            parts += ["What went wrong:", "", *(f"- {_escape(failure)}" for failure in failed), ""]
    parts += ["<details><summary>What the columns mean, and the environment</summary>", "", LEGEND, ""]
    parts += [f"- {_escape(line)}" for line in environment(report["environment"])]
    return "\n".join([*parts, "", "</details>"]) + "\n"


def changed(changes: dict[str, Any] | None) -> list[str]:
    """What changed since the accepted report: a heading, then a line each; nothing where none was accepted."""
    if changes is None:
        return []
    since = f"the report accepted {changes['accepted_at']}" if changes["accepted_at"] else "the accepted report"
    entries = changes["entries"]
    if not entries:
        return [f"Nothing changed beyond noise since {since}."]
    counts = [(sum(entry["kind"] == kind for entry in entries), kind) for kind in KINDS]
    told = ", ".join(f"{count} {kind}{'s' * (count > 1)}" for count, kind in counts if count)
    return [f"Since {since}: {told}.", *map(change, entries)]


def change(entry: dict[str, Any]) -> str:
    """One change in words."""
    where = " ".join(part for part in (entry["model"], entry["precision"]) if part)
    before, after = (figure(entry["metric"], entry[side]) for side in ("before", "after"))
    noise = f" (beyond noise of {entry['noise']:.1%})" if entry["noise"] is not None else ""
    cases = f" ({', '.join(entry['cases'])})" if entry.get("cases") else ""
    subject = f"{where}: {label(entry['metric'])}" if where else label(entry["metric"])
    return f"{entry['kind']}: {subject}: {before} → {after}{noise}{cases}"


def text(report: dict[str, Any]) -> str:
    """The tables as plain text, for a terminal or a log."""
    parts = []
    if (told := changed(report["changes"])) and report["changes"]["entries"]:
        parts += [told[0], *(f"  {line}" for line in told[1:]), ""]
    for model in report["models"]:
        parts += [headline(model), *(f"  {reason}" for reason in model["reasons"]), ""]
        parts += [f"  {line}" for line in columns([HEAD, *rows(model)])]
        parts += ["", *(f"  {note}" for note in (*notes(model), *extras(model), *failures(model))), ""]
    return "\n".join(parts).rstrip() + "\n"


def show(report: dict[str, Any]) -> None:
    """Print the tables: in colour on a terminal, plain anywhere else."""
    import sys

    if not sys.stdout.isatty():
        print(text(report), end="", flush=True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"passed": "green", "warned": "yellow", "refused": "red", "failed": "bold red", "skipped": "dim"}
    console = Console()
    for model in report["models"]:
        table = Table(*HEAD, title=headline(model), title_justify="left")
        for cells in rows(model):
            shown = list(map(escape, cells))
            shown[11] = f"[{colours[cells[11]]}]{cells[11]}[/]"
            table.add_row(*shown)
        console.print(table)
        told = (*model["reasons"], *notes(model), *extras(model), *failures(model))
        console.print(*map(escape, told), sep="\n")


def notes(model: dict[str, Any]) -> list[str]:
    """What the figures of a row do not say: reasons of a verdict, why it is not deployed, how weights are stored."""
    found = [f"float: {reason}" for reason in model["export"]["reasons"]]
    for row in model["precisions"]:
        name = row["precision"]
        found += [f"{name}: {note}" for note in row["notes"]]
        found += [f"{name}: {row['verdict']}: {reason}" for reason in row["reasons"]]
        outcome = row["deployment"]
        if outcome and outcome["verdict"] != "passed":
            fresh = [reason for reason in outcome["reasons"] if reason not in row["reasons"]]
            found += [f"{name}: not deployed: {reason}" for reason in fresh]
    found += [note for row in model["precisions"] if (note := outdated(model["name"], row))]
    return list(dict.fromkeys(found))


def outdated(model: str, row: dict[str, Any]) -> str | None:
    """Which measurements of a precision are left out, being about an earlier package, and how to repeat them."""
    left_out = [task for task in row["stale"] if task not in {task for _, task, _ in EXTRAS}]
    if not left_out:
        return None
    *most, last = left_out
    which = f"{', '.join(most)} and {last} were" if most else f"{last} was"
    tasks = " ".join(f"{task}:{model}-{row['precision']}" for task in left_out)
    return f"{row['precision']}: {which} measured on an earlier package: run doit {tasks}"


def failures(model: dict[str, Any]) -> list[str]:
    """Each step that broke, with its reason and where its log is; what was skipped after it is not repeated."""
    return [
        f"{failure['step']} failed: {'; '.join(failure['reasons']) or 'no reason was left'}"
        + (f" (log: {failure['log']})" if failure["log"] else "")
        for failure in model["failures"]
        if failure["verdict"] == "failed"
    ]


def environment(values: dict[str, Any], prefix: str = "") -> list[str]:
    """The environment as `name: value` lines; a table in it becomes one line."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        lines.append(f"{prefix}{name}: {value}")
    return lines


def columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Lay cells out in columns; numbers, which is all between the first and the last two, to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    last = len(widths) - 2
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if 0 < i < last else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def extras(model: dict[str, Any]) -> list[str]:
    """What the measurements outside the default build found, where they ran."""
    found = []
    for row in model["precisions"]:
        for key, task, name in EXTRAS:
            part = row[key]
            if part:
                stale = " (measured on an earlier package)" if task in row["stale"] else ""
                why = f": {'; '.join(part['reasons'])}" if part["reasons"] else ""
                found.append(f"{row['precision']}: {name}: {part['verdict']}{why}{stale}")
    return found


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    quality, domain = entry["quality"] or {}, entry["domain"] or {}
    speed = entry["performance"] or {}
    first = (speed.get("time_to_first_token_ms") or {}).get("p50")
    return (
        entry["precision"],
        size(entry["size_bytes"]),
        _number(entry["size_ratio"], "{:.2f}×"),
        _number(speed.get("tg128"), "{:.1f}"),
        _number(speed.get("pp512"), "{:.0f}"),
        _number(first, "{:.0f} ms"),
        size(speed.get("peak_rss_bytes")),
        _number(quality.get("kl"), "{:.2g}"),
        _number(quality.get("top1"), "{:.1%}"),
        _number(quality.get("perplexity_ratio"), "{:.3f}"),
        _number(domain.get("score"), "{:.1f}%"),
        entry["verdict"],
        _deployed(entry["deployed"]),
    )


def _deployed(value: dict[str, Any] | None) -> str:
    return NONE if value is None else value["id"] if value["verified"] else f"{value['id']} (not verified)"


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(value: str) -> str:
    """Text that stays text in Markdown, on one line."""
    for mark in "\\`*_[]<>|":
        value = value.replace(mark, "\\" + mark)
    return " ".join(value.split())

"""index.html: the report as one page that needs nothing else, neither network nor script.

Every figure and every quoted word carries the place in report.json that it comes from (`data-path`), and a figure its
exact value (`<data value>`). All text is escaped; what a model or a user wrote is made visible (`visible`) as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from scripts.common.visible import visible
from scripts.definitions.passes import HERE
from scripts.package import usage
from scripts.report import apps, charts, commands, devices, job, series, standing, svg
from scripts.report.answers import Answer, side_by_side
from scripts.report.node import Node
from scripts.report.picked import chosen, having, use, versioned, where
from scripts.report.text import legend, outdated
from scripts.report.words import common_unit, figure, is_size, label, typical
from scripts.results.metric import Metric
from scripts.results.report import KINDS, columns

_HERE = Path(__file__).parent
_MARKS = {"passed": "✓", "warned": "▲", "refused": "✕", "skipped": "–", "failed": "!", "ingot": "✕", "runtime": "▲"}
_CLASSES = {"ingot": "refused", "runtime": "warned"}
#: After these a line may end; before a character that can't begin one it must not.
_PUNCTUATION = re.compile(r"(?<=[,:;{}\[\]/|&=])(?=[^\s,:;}\])])")
_EXPONENT = re.compile(r"e([+-])0*(\d+)")
_NONE = Markup('<span class="none"><span aria-hidden="true">–</span><span class="unseen">not measured</span></span>')


def page(report: dict[str, Any]) -> str:
    """The whole page. The same report gives the same text."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=True, finalize=lambda value: visible(value) if type(value) is str else value,
    )  # fmt: skip
    called = report["called"]
    environment.globals.update(
        doit=lambda *words: commands.doit(called, *words), groups=groups, headed=headed, cell=cell, use=use,
        usage=usage, legend=legend,
        v=shown, s=said, raw_json=as_json, verdict=verdict, label=label, chart=chart, answers=side_by_side,
        parts=marked, missing=partial(missing, called=called),
        having=having, ran_here=devices.ran, job=job, apps=apps, changed=changed, places=places, where=where,
        others=others, outdated=outdated, standing=standing, chosen=chosen, versioned=versioned,
        several=len(report["models"]) > 1,
    )  # fmt: skip
    css = (_HERE / "page.css").read_text(encoding="utf-8")
    text = environment.get_template("page.html.j2").render(report=Node(report), css=Markup(css))
    return re.sub(r"\n\s*\n+", "\n", text)


def shown(node: Node, form: str = "", unit: str = "") -> Markup:
    """A figure as its metric is written (by default that of its name), with its place and exact value."""
    if node.raw is None:
        return _NONE
    value, counted = node.raw, ""
    if isinstance(value, list | dict):
        value, form, counted = len(value), "count", " data-count"
    text = figure(form or node.at.rpartition(".")[2], value, unit)
    written = escape(text.replace(" ", "\N{NO-BREAK SPACE}").replace("-", "−"))
    if found := _EXPONENT.search(text):
        sign = "−" if found[1] == "-" else ""
        head, tail = text[: found.start()], text[found.end() :]
        written = Markup("{}×10<sup>{}{}</sup>{}").format(head, sign, found[2], tail)
    exact = json.dumps(value)
    return Markup('<data value="{}" data-path="{}"{}>{}</data>').format(
        exact, visible(node.at), Markup(counted), written
    )


def said(node: Node, tag: str = "span") -> Markup:
    """Words from the report, with their place."""
    if node.raw is None:
        return _NONE
    if isinstance(node.raw, int | float) and not isinstance(node.raw, bool):
        return shown(node)
    text = json.dumps(node.raw) if isinstance(node.raw, bool) else str(node.raw)
    words = Markup('<{0} data-path="{1}" dir="auto">{2}</{0}>')
    return words.format(Markup(tag), visible(node.at), visible(text))


def as_json(node: Node) -> Markup:
    """A setting as JSON, with its place; plain words as they are."""
    if not isinstance(node.raw, list | dict):
        return said(node)
    text = json.dumps(node.raw, ensure_ascii=False)
    return Markup('<code data-path="{}" data-json>{}</code>').format(visible(node.at), breakable(text))


def verdict(node: Node) -> Markup:
    """A verdict as symbol, colour and word."""
    if node.raw is None:
        return _NONE
    css = _CLASSES.get(node.raw, node.raw)
    text = '<span class="verdict {}"><span aria-hidden="true">{}</span> <span data-path="{}">{}</span></span>'
    return Markup(text).format(css, _MARKS.get(node.raw, "•"), node.at, node.raw)


def breakable(text: str) -> Markup:
    """Text that a line may end in after punctuation, as between the entries of JSON, and so not inside a word."""
    return Markup("<wbr>").join(_PUNCTUATION.split(visible(text)))


def marked(answer: Answer) -> Markup:
    """An answer with what differs marked, by more than colour."""
    inner = Markup("").join(
        Markup("<mark>{}</mark>").format(breakable(text)) if differs else breakable(text)
        for differs, text in answer.parts
    )
    calls = Markup("").join(
        Markup("<small>calls {} with {}</small>").format(said(call["name"], "code"), said(call["arguments"], "code"))
        for call in answer.case["calls"]
    )
    if not inner:
        return calls or Markup('<em class="none">no text</em>')
    text = Markup('<code class="answer" dir="auto" data-path="{}">{}</code>')
    return text.format(answer.case["text"].at, inner) + calls


def places(entries: Node) -> dict[str, list[Node]]:
    """The changes by their kind."""
    return {kind: [entry for entry in entries if entry["kind"].raw == kind] for kind in KINDS}


def changed(entry: Node, side: str) -> Markup:
    """What a changed metric was or is."""
    node = entry[side]
    return shown(node, entry["metric"].raw.partition(" at ")[0]) if _is_number(node.raw) else said(node)


def missing(model: Node, field: str, task: str, called: dict[str, Any]) -> Markup:
    """Which precisions lack a measurement, and the command that makes it; nothing where none does."""
    rows = [row for row in model["precisions"] if field == "quality" or row["target"].raw == HERE]
    lacking = [row["precision"].raw for row in rows if not row[field]]
    if not lacking:
        return Markup("")
    every = len(lacking) == len(rows)
    command = commands.doit(called, *(f"{task}:{model['name'].raw}-{name}" for name in lacking))
    which = "" if every else f" for {', '.join(lacking)}"
    return Markup('<p class="missing">Not measured{}: run <code data-command>{}</code></p>').format(which, command)


def groups() -> list[tuple[str, list[tuple[str, Metric]]]]:
    """The columns of the main table under their headings; what is told beside another figure has none of its own."""
    every = columns()
    beside = {metric.column.beside[0] for _, metric in every if metric.column and metric.column.beside}
    found: dict[str, list[tuple[str, Metric]]] = {}
    for section, metric in every:
        if metric.column and metric.name not in beside:
            found.setdefault(metric.column.group, []).append((section, metric))
    return list(found.items())


def headed(metric: Metric) -> str:
    """The heading of a column."""
    head = metric.column.head if metric.column else metric.label
    return head[:1].upper() + head[1:]


def cell(model: Node, row: Node, section: str, metric: Metric) -> Markup:
    """A figure of the main table, with what is told beside it; sizes of a column in one unit."""
    place = row[section] if section else row
    entries = [model["export"], *model["precisions"]]
    values = [typical((entry[section] if section else entry)[metric.name].raw) for entry in entries]
    unit = common_unit(values) if is_size(metric.name) else ""
    node = place[metric.name]
    told = shown(node["p50"] if isinstance(node.raw, dict) else node, metric.name, unit)
    if metric.column and metric.column.beside and place:
        name, words = metric.column.beside
        other = node[name] if isinstance(node.raw, dict) else place[name]
        if other.raw is not None:
            form = metric.name if isinstance(node.raw, dict) else name
            before, after = words.split("{}")
            told += Markup("<small>{}{}{}</small>").format(before, shown(other, form), after)
    return told + _asked(place) if metric.name == "score" and place else told


def _asked(domain: Node) -> Markup:
    """Of how many cases a score is, how sure it is, and what differs from the float export."""
    told = Markup("<small>of {} asked, of {}</small>").format(
        shown(domain["asked"], "count"), shown(domain["cases_total"], "count")
    )
    ends = domain["score_interval"]
    if ends:
        told += Markup("<small>{} to {}</small>").format(shown(ends[0], "percent"), shown(ends[1], "percent"))
    lost, won = domain["baseline"]["lost"], domain["baseline"]["won"]
    if lost or won:
        counts = [shown(part) if part else "none" for part in (lost, won)]
        told += Markup("<small>{} lost, {} won</small>").format(*counts)
    apart = domain["baseline"]["difference_interval"]
    if apart:
        words = Markup("<small>{} to {} points beside float</small>")
        told += words.format(shown(apart[0], "points"), shown(apart[1], "points"))
    return told


def others(environment: Node) -> list[tuple[str, Node]]:
    """What is told of the environment beside the tools, objects spread."""
    found: list[tuple[str, Node]] = []
    for name, value in environment.entries():
        if name != "tools":
            found += value.entries() or [(name, value)]
    return found


def chart(kind: str, model: Node, key: str, text: str = "") -> Markup:
    """A chart of a model at every width; nothing where there is nothing to draw."""
    drawn = _CHARTS[kind](model.raw, text)
    half = kind in ("ttft", "decode", "position")
    return Markup(svg.figure(drawn[0], key, *drawn[1:], half=half)) if drawn else Markup("")


_Chart = tuple[Callable[[int], dict[str, Any]], str, str] | None


def _pareto(model: dict[str, Any], text: str) -> _Chart:
    rows = series.pareto(model)
    told = "; ".join(
        f"{row['name']}: {figure('size_bytes', row['size'] * 1e6)}, KL {figure('kl', row['kl'])}, "
        + (f"{figure('tg128', row['rate'])} tokens a second" if row["rate"] else "speed not measured")
        + ("" if row["front"] else ", not on the frontier")
        + (", recommended" if row["recommended"] else "")
        for row in rows
    )
    title = f"Size, quality and speed of {text}"
    return (lambda width: charts.pareto_chart(rows, width), title, told) if rows else None


def _context(metric: str, name: str, unit: str) -> Callable[[dict[str, Any], str], _Chart]:
    def made(model: dict[str, Any], _text: str) -> _Chart:
        rows = series.context_rows(model, metric)
        told = _by_name(rows, lambda row: f"{figure(metric, row['y'])} at {row['x']} tokens")
        draw = _lines(model, rows, "prompt, tokens", f"{name}, {unit}", log_x=True, log_y=metric.endswith("_ms"))
        return (draw, f"{name.capitalize()} by length of the prompt", told) if rows else None

    return made


def _latency(model: dict[str, Any], _text: str) -> _Chart:
    rows = series.latency_rows(model)
    told = _by_name(rows, lambda row: f"median {row['median']:.1f} ms", once=True)
    title = "Distribution of the time between tokens"
    return (lambda width: charts.latency_chart(rows, width, _order(model)), title, told) if rows else None


def _soak(model: dict[str, Any], _text: str) -> _Chart:
    rows = series.soak_rows(model)
    told = _by_name(rows, lambda row: f"from {row['y']:.0f} MB", once=True)
    draw = _lines(model, rows, "request", "resident memory, MB", points=False)
    return (draw, "Resident memory over the soak, with the fitted slope", told) if rows else None


def _position(model: dict[str, Any], text: str) -> _Chart:
    rows = series.position_rows(model, text)
    told = _by_name(rows, lambda row: f"{figure('kl', row['y'])} around token {row['x']:.0f}", once=True)
    draw = _lines(model, rows, "position in the text, tokens", "KL from float, nats", log_y=True, points=False)
    return (draw, f"KL by position in the text “{text}”", told) if rows else None


def _lines(
    model: dict[str, Any], rows: Sequence[dict[str, Any]], x: str, y: str, **options: Any
) -> Callable[[int], dict[str, Any]]:
    return lambda width: charts.line_chart(rows, width, _order(model), x, y, **options)


def _order(model: dict[str, Any]) -> list[str]:
    """The precisions of a model, measured or not: each has one colour on all charts."""
    return [row["precision"] for row in model["precisions"]]


def _by_name(rows: Sequence[dict[str, Any]], tell: Callable[[dict[str, Any]], str], *, once: bool = False) -> str:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(tell(row))
    return "; ".join(f"{name}: {', '.join(parts[:1] if once else parts)}" for name, parts in found.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHARTS: dict[str, Callable[[dict[str, Any], str], _Chart]] = {
    "pareto": _pareto, "latency": _latency, "soak": _soak, "position": _position,
    "ttft": _context("time_to_first_token_ms", "time to first token", "ms"),
    "decode": _context("decode_tokens_per_second", "decode rate", "tokens/s"),
}  # fmt: skip

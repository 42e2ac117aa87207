"""The report as text, for a terminal and a pull request: pure functions from the dict of report.json.

No number here that is not in there. What a terminal shows comes in several widths: as wide as the table is, and less,
where the least important columns of the registry are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.common import terminal
from scripts.common.visible import lines_of
from scripts.common.visible import markdown as escaped
from scripts.definitions.passes import HERE
from scripts.report import across, apps, commands, devices, standing, versions
from scripts.report import table as tables
from scripts.report.job import cases, fine_tuning
from scripts.report.words import NONE, common_unit, figure, is_size, label, typical
from scripts.results.metric import Metric
from scripts.results.report import KINDS, columns

#: Terminals, in columns, that get a table of their own; the whole table is for wider ones, and for files.
WIDTHS = (80, 100, 120, 140)
#: So many remarks, and other changes, are told on a terminal; the report tells all.
MOST_REMARKS, MOST_CHANGES = 5, 6
#: Measurements outside the default build: field of a precision, task, what people call it.
EXTRAS = (("performance_full", "bench-full", "bench-full"), ("soak", "soak", "soak"), ("edges", "edges", "edge cases"))
_FIRST, _LAST = "precision", ("verdict", "deployed as")
#: The last column goes first where there is no room: the ids are told below the table too.
_DEPLOYED_RANK = 99


def head() -> tuple[str, ...]:
    """The headings of the table."""
    return (_FIRST, *(entry.column.head for _, entry in columns() if entry.column), *_LAST)


def legend() -> str:
    """What the columns mean."""
    told = [f"{_sentence(entry.column.head)}: {_described(entry)}." for _, entry in columns() if entry.column]
    return " ".join([*told, f"{NONE}: not measured."])


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
    """The table of a model as text, a cell for each of `head()`: the float export first, then every precision.

    Before them, where it was asked, the model without its fine-tuning.
    """
    export = {"precision": "float", "size_ratio": None, "performance": None, "deployed": None, **model["export"]}
    if export["size_bytes"]:
        export["size_ratio"] = 1.0
    entries = [export, *model["precisions"]]
    if base := model["base"] and model["base"]["domain"]:
        entries.insert(0, {"precision": "base", "domain": base, "verdict": NONE, "deployed": None})
    cells = [_column(section, metric, entries) for section, metric in columns()]
    return [
        (
            entry["precision"],
            *(column[i] for column in cells),
            entry["verdict"],
            _deployed(entry),
        )
        for i, entry in enumerate(entries)
    ]


def markdown(report: dict[str, Any]) -> str:
    """The whole report, fit for a pull request: the verdict, the table, what changed; the rest folded away."""
    report = lines_of(report)
    parts, heads = ["# Report", ""], head()
    for model in report["models"]:
        parts += [
            f"**{escaped(headline(model))}.**",
            "",
            *(f"- {escaped(reason)}" for reason in model["reasons"]),
            "",
        ]
    if table := across.rows(report):
        parts += [_line(across.HEAD), _line("---" for _ in across.HEAD)]
        parts += [_line(cell if cell == NONE else escaped(cell) for cell in row) for row in table]
        parts += ["", escaped(across.legend()) + ".", ""]
    if told := standing.others(report):
        parts += ["In the Foundry cache:", "", *(f"- {escaped(line)}" for line in told), ""]
    if told := changed(report["changes"]):
        parts += [escaped(told[0]), "", *(f"- {escaped(line)}" for line in told[1:]), ""]
    for model in report["models"]:
        parts += [f"## {escaped(model['name'])}", "", _line(heads)]
        parts += [_line(["---"] + ["---:"] * (len(heads) - 3) + ["---"] * 2)]
        parts += [_line(cell if cell == NONE else escaped(cell) for cell in row) for row in rows(model)]
        told = [*cases(model), *fine_tuning(model), *apps.lines(model), *notes(model, report["called"])]
        told += [*extras(model), *versions.lines(model, report["called"])]
        parts += ["", *(f"- {escaped(note)}" for note in told), ""]
        if failed := failures(model):
            parts += ["What went wrong:", "", *(f"- {escaped(failure)}" for failure in failed), ""]
        if model["remarks"]:
            parts += ["What was assumed, renamed or left out:", ""]
            parts += [*(f"- {escaped(remark)}" for remark in remarks(model)), ""]
    parts += ["<details><summary>What the columns mean, and the environment</summary>", "", escaped(legend()), ""]
    parts += [f"- {escaped(line)}" for line in environment(report["environment"])]
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
    named = f" ({', '.join(entry['cases'])})" if entry.get("cases") else ""
    subject = f"{where}: {label(entry['metric'])}" if where else label(entry["metric"])
    return f"{entry['kind']}: {subject}: {before} → {after}{noise}{named}"


def text(report: dict[str, Any], width: int = 0) -> str:
    """For a terminal or a log: verdict and table of each model, what changed, and how to use what was made.

    `width`: columns of the terminal; 0 for as many as the table takes.
    """
    report = lines_of(report)
    parts: list[str] = []
    if table := across.rows(report):
        laid = tables.fitted([across.HEAD, *table], across.RANKS, across.NUMBERS, width and width - 2)
        parts += [*(f"  {line}" for line in laid), f"  {across.legend()}", ""]
    for model in report["models"]:
        parts += [headline(model), *(f"  {reason}" for reason in model["reasons"]), ""]
        parts += [f"  {line}" for line in fitted([head(), *rows(model)], width and width - 2)]
        told = [*cases(model), *fine_tuning(model), *apps.lines(model), *notes(model, report["called"])]
        told += [*extras(model), *failures(model), *versions.lines(model, report["called"])]
        parts += ["", *(f"  {line}" for line in (*told, *_few(remarks(model), MOST_REMARKS))), ""]
    if told := standing.others(report):
        parts += ["in the Foundry cache:", *(f"  {line}" for line in told), ""]
    if (told := changed(report["changes"])) and report["changes"]["entries"]:
        other = sum(entry["kind"] == KINDS[-1] for entry in report["changes"]["entries"])
        lines = [*told[1 : len(told) - other], *_few(told[len(told) - other :], MOST_CHANGES)]
        parts += [told[0], *(f"  {line}" for line in lines), ""]
    return terminal.fitted("\n".join([*parts, *commands.ending(report)]), width).rstrip() + "\n"


def _few(lines: Sequence[str], most: int) -> list[str]:
    left = len(lines) - most
    return [*lines[:most], *([f"and {left} more in the report"] if left > 0 else [])]


def remarks(model: dict[str, Any]) -> list[str]:
    """What stages assumed, renamed, ignored or chosen."""
    return [f"{remark['subject']}: {remark['text']}" for remark in model["remarks"]]


def notes(model: dict[str, Any], called: dict[str, Any]) -> list[str]:
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
        found += [f"{name}: {line}" for line in standing.lines(row["stands"], called)]
        if note := unmeasured(model["name"], row, called):
            found.append(note)
        if note := outdated(model["name"], row, called):
            found.append(note)
    return list(dict.fromkeys(found))


def unmeasured(model: str, row: dict[str, Any], called: dict[str, Any]) -> str | None:
    """That a precision was not measured because a gate refused it, and how to measure it all the same."""
    if row["performance"] or row["verdict"] != "refused" or "bench" in row["stale"] or row["target"] != HERE:
        return None
    name = row["precision"]
    return f"{name}: not benched: refused; to measure it all the same: {commands.doit(called, f'bench:{model}-{name}')}"


def outdated(model: str, row: dict[str, Any], called: dict[str, Any]) -> str | None:
    """Which measurements of a precision are left out, being about an earlier package, and how to repeat them."""
    left_out = [task for task in row["stale"] if task not in {task for _, task, _ in EXTRAS}]
    if not left_out:
        return None
    *most, last = left_out
    which = f"{', '.join(most)} and {last} were" if most else f"{last} was"
    again = commands.doit(called, *(f"{task}:{model}-{row['precision']}" for task in left_out))
    return f"{row['precision']}: {which} measured on an earlier package: run {again}"


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


def fitted(table: Sequence[Sequence[str]], width: int) -> list[str]:
    """The table of a model's precisions laid out; where it is too wide, without the columns of the highest rank."""
    ranks = [0, *(entry.column.rank for _, entry in columns() if entry.column), 0, _DEPLOYED_RANK]
    return tables.fitted(table, ranks, [0 < i < len(ranks) - 2 for i in range(len(ranks))], width)


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


def _column(section: str, metric: Metric, entries: Sequence[dict[str, Any]]) -> list[str]:
    """The cells of one column; sizes all in one unit."""
    values = [typical(((entry.get(section) or {}) if section else entry).get(metric.name)) for entry in entries]
    unit = common_unit(values) if is_size(metric.name) else ""
    return [NONE if value is None else figure(metric.name, value, unit) for value in values]


def _described(entry: Metric) -> str:
    told = entry.description or entry.label
    start = told if told[1:2].isupper() else told[:1].lower() + told[1:]
    return start + (f", in {entry.unit}" if entry.unit and entry.form and "%" not in entry.form else "")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _deployed(entry: dict[str, Any]) -> str:
    value, stands = entry["deployed"], entry.get("stands")
    if entry.get("target", HERE) != HERE:
        return f"{'run' if devices.ran(entry) else 'not run'} here ({entry['target']})"
    if value is None:
        return f"{stands[0]['id']} (of an earlier build)" if stands else NONE
    return value["id"] if value["verified"] else f"{value['id']} (not verified)"


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"

"""What changed between two reports: regressions and improvements that are more than noise, and other changes.

Three kinds of figures are compared in three ways. Figures that are the same whenever they are computed again (size,
KL, the answers to the cases) differ as soon as they differ by more than their interval or a rounding floor. Timings
and memory differ only beyond the noise that either report measured for itself. Everything else (a verdict, a tool's
version, a setting) differs when it is not equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from scripts.results.bench import Bench, Context
from scripts.results.domain import Domain
from scripts.results.metric import Metric, of
from scripts.results.quality import Quality
from scripts.results.report import KINDS, Change, Kind, Precision

#: No difference of speed or memory below this share is told, however quiet a run believed itself to be: an A/A control
#: sees the noise within one run, not that between days (clock speed, memory layout, what else the machine does).
LEAST_NOISE = 0.05
#: How many times its noise a figure must move. One pair of runs in a hundred differs by more than a floor (see
#: `scripts.bench.stats`), and dozens of figures are compared at once; by more than twice the floor hardly any does.
BEYOND = 2.0
#: Taken for noise where a report holds no A/A control: then a difference must be twice the least.
NOISE_UNKNOWN = 2 * LEAST_NOISE / BEYOND
#: From best to worst. What was not measured is neither.
_VERDICTS = ("passed", "warned", "refused", "failed")
_SECTIONS = ("quality", "domain", "performance", "performance_full", "soak", "edges")
#: Sections that are told by a verdict of their own: they are outside the default build.
_OPTIONAL = ("soak", "edges", "performance_full")
#: Conditions that must agree before two timings may be compared.
_CONDITIONS = ("processor", "machine", "threads", "context_length", "execution_provider")


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every change from one report.json to another, regressions first, then improvements, then other changes.

    Of two reports that measured the same thing twice there is none. A figure that either lacks is not compared.
    """
    found = [*_models(before, after), *_environment(before, after)]
    return sorted(found, key=lambda entry: KINDS.index(entry.kind))


def between(model: str, precision: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every change from one version of a precision to another, of two tables of `Figures`; by the same rules."""
    found = _subject(model, precision, before, after, comparable=True)
    return sorted(found, key=lambda entry: KINDS.index(entry.kind))


def _models(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    old, new = _named(before["models"], "name"), _named(after["models"], "name")
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            yield _entry(name, None, "model", *_presence(name in old), "change")
            continue
        was, now = old[name], new[name]
        if was["recommended"] != now["recommended"]:
            kind: Kind = "regression" if now["recommended"] is None else "change"
            yield _entry(name, None, "recommended", was["recommended"], now["recommended"], kind)
        yield from _subject(name, None, was["export"], now["export"], comparable=False)
        yield from _settings(name, was.get("settings"), now.get("settings"))
        rows, others = _named(was["precisions"], "precision"), _named(now["precisions"], "precision")
        for row in dict.fromkeys([*rows, *others]):
            if row not in rows or row not in others:
                yield _entry(name, row, "precision", *_presence(row in rows), "change")
            else:
                same = _same_machine(before, after)
                yield from _subject(name, row, rows[row], others[row], comparable=same)


def _subject(
    model: str, precision: str | None, was: Mapping[str, Any], now: Mapping[str, Any], *, comparable: bool
) -> Iterator[Change]:
    """The changes of one precision, or of the float export where `precision` is None."""
    yield from _verdict(model, precision, "verdict", was, now)
    for section in _SECTIONS:
        if was.get(section) and not now.get(section):
            yield _entry(model, precision, section, "measured", "not measured", "change")
    yield from _exact(model, precision, was, now, Precision)
    yield from _exact(model, precision, was.get("quality") or {}, now.get("quality") or {}, Quality)
    yield from _domain(model, precision, was["domain"], now["domain"])
    yield from _exact(model, precision, was.get("domain") or {}, now.get("domain") or {}, Domain)
    for section in _OPTIONAL:
        yield from _verdict(model, precision, f"{section} verdict", was.get(section), now.get(section))
    yield from _edges(model, precision, was.get("edges"), now.get("edges"))
    if not comparable:
        return
    quick, again = was.get("performance") or {}, now.get("performance") or {}
    yield from _timings(model, precision, quick, again, Bench, "")
    full, later = was.get("performance_full") or {}, now.get("performance_full") or {}
    if not _same_conditions(full, later):
        return
    contexts, others = (_named(part.get("contexts") or [], "prompt_tokens") for part in (full, later))
    for tokens in sorted(contexts.keys() & others.keys()):
        pair = [{**part[tokens], **_control(of)} for part, of in ((contexts, full), (others, later))]
        yield from _timings(model, precision, pair[0], pair[1], Context, f" at {tokens} tokens")


def _exact(
    model: str, precision: str | None, was: Mapping[str, Any], now: Mapping[str, Any], kind: type[Struct]
) -> Iterator[Change]:
    """Figures that are the same whenever they are computed: beyond their interval, and beyond rounding."""
    for name, entry in of(kind).items():
        old, new = was.get(name), now.get(name)
        if entry.floor is None or old is None or new is None:
            continue
        if abs(new - old) <= entry.floor * (abs(old) if entry.floor_is_share else 1):
            continue
        intervals = was.get(f"{name}_interval"), now.get(f"{name}_interval")
        if any(_within(value, interval) for value, interval in ((new, intervals[0]), (old, intervals[1]))):
            continue
        yield _entry(model, precision, name, old, new, _kind(entry.better * (new - old)))


def _domain(
    model: str, precision: str | None, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> Iterator[Change]:
    """Cases by their names: those of either set alone say nothing about the model."""
    if not was or not now:
        return
    old, new = ({case["id"]: case["passed"] for case in part["cases"]} for part in (was, now))
    both = [name for name in old if name in new]
    lost = [name for name in both if old[name] and not new[name]]
    won = [name for name in both if new[name] and not old[name]]
    right = sum(old[name] for name in both)
    if lost:
        yield _entry(model, precision, "cases lost", right, right - len(lost), "regression", cases=lost)
    if won:
        yield _entry(model, precision, "cases won", right, right + len(won), "improvement", cases=won)


def _edges(
    model: str, precision: str | None, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> Iterator[Change]:
    """Edge cases one by one: which of them is no longer handled."""
    old, new = (_named((part or {}).get("cases") or [], "id") for part in (was, now))
    for name in old:
        if name in new and old[name]["outcome"] != new[name]["outcome"]:
            good = {"passed": 1}
            better = good.get(new[name]["outcome"], 0) - good.get(old[name]["outcome"], 0)
            outcomes = old[name]["outcome"], new[name]["outcome"]
            yield _entry(model, precision, f"edge case {name}", *outcomes, _kind(better) if better else "change")


def _timings(
    model: str, precision: str | None, was: Mapping[str, Any], now: Mapping[str, Any], kind: type[Struct], where: str
) -> Iterator[Change]:  # fmt: skip
    if not _same_conditions(was, now):
        return
    for name, entry in of(kind).items():
        old, new = _typical(was.get(name)), _typical(now.get(name))
        if not entry.timed or not old or not new:
            continue
        noise = max(BEYOND * _noise(was, entry), BEYOND * _noise(now, entry), LEAST_NOISE)
        # By the ratio of the larger to the smaller: half as fast is as far as twice as fast.
        if max(old, new) / min(old, new) - 1 > noise:
            better = _kind(entry.better * (new - old))
            yield _entry(model, precision, name + where, old, new, better, noise=round(noise, 4))


def _verdict(
    model: str, precision: str | None, metric: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> Iterator[Change]:
    old, new = (part.get("verdict") if part else None for part in (was, now))
    if old == new or old is None or new is None:
        return
    judged = old in _VERDICTS and new in _VERDICTS
    kind: Kind = _kind(_VERDICTS.index(old) - _VERDICTS.index(new)) if judged else "change"
    yield _entry(model, precision, metric, old, new, kind)


def _settings(model: str, was: Any, now: Any) -> Iterator[Change]:
    if not was or not now:  # a report that was not told the settings
        return
    for name, old, new in _differences(was, now):
        yield _entry(model, None, f"setting {name}", old, new, "change")


def _differences(was: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """What differs, by name; a table that only one side has is one difference, not as many as it has entries."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*was, *now]):
            yield from _differences(was.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif was != now:
        old, new = ("there" if isinstance(value, Mapping) else value for value in (was, now))
        yield name, old, new


def _environment(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    old, new = (report["environment"].get("tools") or {} for report in (before, after))
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield _entry(None, None, f"tool {name}", old.get(name), new.get(name), "change")
    if not _same_machine(before, after):
        was, now = (_words(report["environment"].get("machine")) for report in (before, after))
        yield _entry(None, None, "machine", was, now, "change")


def _same_machine(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return bool(before["environment"].get("machine") == after["environment"].get("machine"))


def _same_conditions(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    old, new = was.get("conditions") or {}, now.get("conditions") or {}
    return all(old.get(name) == new.get(name) for name in _CONDITIONS)


def _control(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part.get(name) for name in ("noise", "conditions")}


def _noise(part: Mapping[str, Any], entry: Metric) -> float:
    shares = part.get("noise") or {}
    share = shares.get(entry.name, shares.get(entry.noise_of))
    return NOISE_UNKNOWN if share is None else float(share)


def _typical(value: Any) -> float | None:
    found = value.get("p50") if isinstance(value, Mapping) else value
    return None if found is None else float(found)


def _within(value: float, interval: Any) -> bool:
    return bool(interval) and interval[0] <= value <= interval[1]


def _named(items: Any, key: str) -> dict[Any, Mapping[str, Any]]:
    return {item[key]: item for item in items}


def _presence(was_there: bool) -> tuple[str | None, str | None]:
    return ("there", None) if was_there else (None, "there")


def _words(value: Any) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, Mapping) else str(value)


def _kind(better: float) -> Kind:
    return "improvement" if better > 0 else "regression"


def _entry(
    model: str | None, precision: str | None, metric: str, before: Any, after: Any, kind: Kind,
    noise: float | None = None, cases: Sequence[str] = (),
) -> Change:  # fmt: skip
    return Change(
        model=model, precision=precision, metric=metric, before=before, after=after, noise=noise, kind=kind,
        cases=list(cases),
    )  # fmt: skip

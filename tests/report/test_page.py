from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.report import answers, page, render, series, text
from scripts.report.node import Node
from scripts.results import base
from tests.report import results

SETTINGS = {
    "description": "Sorts tickets", "context_length": 4096, "sampling": {"temperature": 0.7, "top_p": 1.0},
    "recipes": {"int4": {"passes": [{"type": "WeightOnlyQuantization", "bits": 4}]}},
}  # fmt: skip
MODELS = [{**model, "settings": SETTINGS} for model in results.MODELS]
#: Digits in the page's own prose, which are no figures.
PROSE = re.compile(r"\b(p50|p90|p99|99th|top-1|ISO 8601)\b", re.IGNORECASE)


def test_every_figure_is_that_of_the_report_and_none_is_without_a_source(full: Path) -> None:
    report, shown = _page(full)
    assert len(shown.sourced) > 200
    for element in shown.sourced:
        _check(element, _at(report, element["data-path"]))
    names = [model["name"] for model in report["models"]] + ["bench-full"]
    for model in report["models"]:
        names += [row["precision"] for row in model["precisions"]]
        names += [case["id"] for case in model["export"]["domain"]["cases"]]
        names += model["settings"]
    names.append(text.legend())
    bare = [_without(words, names) for words in shown.prose]
    assert [words for words in bare if re.search(r"\d", words)] == []


def test_a_wrong_figure_would_be_seen(full: Path) -> None:
    report, shown = _page(full)
    report["models"][0]["precisions"][1]["performance"]["tg128"] += 1
    wrong = [element for element in shown.sourced if element["data-path"].endswith("precisions.1.performance.tg128")]
    assert wrong
    for element in wrong:
        with pytest.raises(AssertionError):
            _check(element, _at(report, element["data-path"]))


def test_the_same_report_gives_the_same_bytes(full: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        render.render(full, MODELS, None, {"threads": 2}, tmp_path / name)
    for file in ("index.html", "report.json", "report.md", "table.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_page_needs_neither_network_nor_script(full: Path) -> None:
    html = page.page(_report(full))
    assert "<script" not in html
    # A program that a reader copies names an address; the page itself names none.
    assert not re.search(r"https?:|@import|url\((?!#)", re.sub(r"(?s)<pre data-snippet>.*?</pre>", "", html))
    assert all(link.startswith(("#", "data:,")) for link in _Page(html).links)


def test_the_page_can_be_read_without_eyes(full: Path) -> None:
    _, shown = _page(full)
    assert shown.root == {"lang": "en"}
    assert shown.title == "Ingot report: triage → int8"
    assert all("scope" in attributes for attributes in shown.heads)
    assert shown.captions == shown.tables > 10
    assert len(shown.pictures) >= 12
    assert all(picture["role"] == "img" for picture in shown.pictures)
    ids = [*shown.ids]
    assert len(ids) == len(set(ids))
    assert shown.referred <= set(ids)


def test_what_was_not_measured_says_how_to_measure_it(build: Path) -> None:
    _, shown = _page(build)
    every = "triage-int4 {0}:triage-int8 {0}:triage-fp16"
    for task in ("bench-full", "soak", "edges"):
        assert f"doit {task}:{every.format(task)}" in shown.commands
    assert "doit bench:triage-fp16" in shown.commands
    assert "doit accept" in shown.commands


def test_only_what_is_lacking_is_asked_for(full: Path) -> None:
    _, shown = _page(full)
    assert "doit bench-full:triage-int8 bench-full:triage-fp16" in shown.commands


def test_an_empty_build_has_a_page(tmp_path: Path) -> None:
    text = page.page(_report(tmp_path))
    assert "Deploy nothing yet" in text
    assert "None" not in text


HOSTILE = (
    '</script><script>alert(1)</script><img src=x onerror="alert(2)"> {{ 7 * 7 }} \x00\x07 \u202eevil\u202c '
    "&amp; ‏שלום\u2066 <mark>not ours</mark> ]]> --> \ufffd"
)


def test_what_a_model_answers_stays_text(full: Path) -> None:
    report = _report(full)
    for row in (report["models"][0]["export"], *report["models"][0]["precisions"]):
        for case in (row["domain"] or {"cases": []})["cases"]:
            case["text"] = case["id"] = case["asked"] = HOSTILE
            case["failures"] = [HOSTILE]
            case["calls"] = [{"name": HOSTILE, "arguments": HOSTILE}]
    report["models"][0]["reasons"] = [HOSTILE]
    report["models"][0]["settings"] = {"description": HOSTILE, HOSTILE: [HOSTILE, {HOSTILE: 1}]}
    report["environment"]["tools"][HOSTILE] = HOSTILE
    text = page.page(report)
    assert "<script" not in text
    assert "<img" not in text
    assert "not ours</mark>" not in text
    assert "{{ 7 * 7 }}" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)
    assert "␀␇ ⟨U+202E⟩evil⟨U+202C⟩" in text
    text.encode("utf-8")


def test_half_a_character_does_not_break_the_page(full: Path) -> None:
    report = _report(full)
    report["models"][0]["reasons"] = ["half \ud83d of one"]
    assert "half ⟨U+D83D⟩ of one" in page.page(report)


def test_the_answers_that_lost_come_first_and_differences_are_marked(full: Path) -> None:
    report, _ = _page(full)
    cases = answers.side_by_side(Node(report)["models"][0])
    assert [(case.name, case.lost, case.won) for case in cases] == [
        ("t-1", ["int4", "int8"], []),
        ("t-3", [], ["int4"]),
        ("t-2", [], []),
    ]
    first = cases[0].answers
    assert [answer.names for answer in first] == [["float"], ["int4", "int8"]]
    assert [text for differs, text in first[1].parts if differs] == ["defect"]
    assert "<mark>defect</mark>" in page.page(report)


def test_a_call_is_shown_beside_what_is_said_and_told_from_text_that_looks_like_it(full: Path) -> None:
    report = _report(full)
    for row in (report["models"][0]["export"], *report["models"][0]["precisions"]):
        for case in (row["domain"] or {"cases": []})["cases"]:
            case["text"] = ""
    told = report["models"][0]["export"]["domain"]["cases"][0]
    told["calls"] = [{"name": "weather", "arguments": "Rome"}]
    first = next(case for case in answers.side_by_side(Node(report)["models"][0]) if case.name == told["id"])
    assert [page.marked(answer).striptags() for answer in first.answers] == ["calls weather with Rome", "no text"]


def test_an_answer_that_was_ended_says_so(full: Path) -> None:
    report = _report(full)
    assert "no JSON begins like this" not in page.page(report)
    report["models"][0]["export"]["domain"]["cases"][0]["cut"] = True
    assert page.page(report).count("<small>ended here: no JSON begins like this</small>") == 1


@pytest.mark.parametrize(("before", "after"), [("a b c", "a x c"), ("", "new"), ("same", "same"), ("x\n" * 3000, "y")])
def test_the_parts_of_an_answer_make_it_up(before: str, after: str) -> None:
    assert "".join(text for _, text in answers.differences(before, after)) == after


def test_a_point_that_is_beaten_in_everything_is_not_on_the_frontier() -> None:
    rows = [
        ("small", 100, 0.2, 60), ("beaten", 150, 0.3, 50), ("slow", 150, 0.01, 40), ("fast", 150, 0.3, 90),
        ("unmeasured", 200, 0.5, None),
    ]  # fmt: skip
    precisions = [
        {"precision": name, "size_bytes": size * 10**6, "quality": {"kl": kl}, "performance": {"tg128": rate},
         "verdict": "passed"}
        for name, size, kl, rate in rows
    ]  # fmt: skip
    found = series.pareto({"precisions": precisions, "recommended": "slow"})
    assert [row["name"] for row in found if row["front"]] == ["small", "slow", "fast"]
    assert [row["name"] for row in found if row["edge"]] == ["small", "slow"]
    assert [row["name"] for row in found if row["recommended"]] == ["slow"]


def test_the_charts_draw_the_report_and_nothing_else(full: Path) -> None:
    report, _ = _page(full)
    model = report["models"][0]
    int4 = model["precisions"][0]
    assert [row["y"] for row in series.context_rows(model, "time_to_first_token_ms")] == [
        context["time_to_first_token_ms"]["p50"] for context in int4["performance_full"]["contexts"]
    ]
    soak = series.soak_rows(model)
    assert [row["y"] * 1e6 for row in soak] == pytest.approx([point["bytes"] for point in int4["soak"]["rss"]])
    slope = (soak[-1]["fit"] - soak[0]["fit"]) * 1e6 / (soak[-1]["x"] - soak[0]["x"])
    assert slope == pytest.approx(int4["soak"]["slope_bytes_per_request"])
    buckets = int4["quality"]["texts"]["general"]["kl_by_position"]
    assert [row["y"] for row in series.position_rows(model, "general") if row["name"] == "int4"] == [
        bucket["kl"] for bucket in buckets
    ]
    bars = [row for row in series.latency_rows(model) if row["name"] == "int4"]
    assert sum(row["share"] for row in bars) == pytest.approx(1)
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", page.page(report))
    for row in model["precisions"]:
        if row["performance"]:
            assert f"{row['performance']['tg128']:.1f} tok/s" in drawn


def test_regressions_are_named_first_on_page_and_in_markdown(full: Path, tmp_path: Path) -> None:
    before = _report(full)
    speed = before["models"][0]["precisions"][1]["performance"]
    speed["tg128"], speed["time_to_first_token_ms"] = 2 * speed["tg128"], results.percentiles(900.0)
    accepted = tmp_path / "accepted.json"
    json_files.write(accepted, {"accepted_at": "2026-11-20T10:00:00+00:00", "note": "good", "report": before})
    report = base.plain(render.render(full, MODELS, accepted, {"threads": 2}, tmp_path / "out"))
    assert [entry["kind"] for entry in report["changes"]["entries"]] == ["regression", "improvement"]
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert html.index("Worse than the accepted report") < html.index("The precisions")
    shown = _Page(html)
    for element in shown.sourced:
        _check(element, _at(report, element["data-path"]))
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert markdown.index("regression: triage int8: decode rate: 122.5 → 61.2") < markdown.index("## triage")
    assert "1 regression, 1 improvement" in markdown
    table = (tmp_path / "out" / "table.txt").read_text(encoding="utf-8")
    assert table.startswith("triage: int8 is recommended")
    assert table.index("Since the report accepted") < table.index("regression: triage int8") < table.index("Report:")


def test_a_report_like_the_accepted_one_says_so(full: Path, tmp_path: Path) -> None:
    accepted = tmp_path / "accepted.json"
    json_files.write(accepted, {"accepted_at": None, "note": None, "report": _report(full)})
    render.render(full, MODELS, accepted, {"threads": 2}, tmp_path / "out")
    assert "Nothing changed beyond noise" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Nothing changed beyond noise since the accepted report" in (tmp_path / "out" / "report.md").read_text(
        "utf-8"
    )


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"report": {}}', '{"accepted_at": 1, "note": 1, "report": {"version": 7}}']
)
def test_an_accepted_report_that_is_none_is_an_error(full: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "accepted.json").write_text(text, encoding="utf-8")
    with pytest.raises(IngotError, match=r"accepted\.json.*run doit accept again"):
        render.render(full, MODELS, tmp_path / "accepted.json", None, tmp_path / "out")


@pytest.mark.parametrize("name", ["bench-full", "soak", "edges"])
def test_an_optional_result_that_is_no_json_is_named(full: Path, name: str) -> None:
    (full / "triage" / "int4" / f"{name}.json").write_text("{", encoding="utf-8")
    with pytest.raises(IngotError, match=rf"{name}\.json"):
        results.collected(full, MODELS)


def test_an_optional_step_that_failed_overrides_the_older_result(full: Path) -> None:
    results.marker(full / "triage" / "int4", "soak", "failed", "it broke", "soak:triage-int4", "logs/soak.log")
    report, shown = _page(full)
    assert report["models"][0]["precisions"][0]["soak"] is None
    assert report["models"][0]["precisions"][0]["verdict"] == "refused"  # by its gate, as before
    assert "doit soak:triage-int4 soak:triage-int8 soak:triage-fp16" in shown.commands
    assert "soak:triage-int4 failed: it broke (log: logs/soak.log)" in page.page(report) or "it broke" in shown.text


def test_an_optional_result_about_an_earlier_package_says_so(full: Path) -> None:
    results.packaged(full / "triage" / "int4", "of another package", "soak")
    report, shown = _page(full)
    assert report["models"][0]["precisions"][0]["stale"] == ["soak"]
    assert shown.text.count("measured on an earlier package") == 1
    assert "doit soak:triage-int4" in shown.text


def test_a_figure_of_an_earlier_package_is_not_shown_beside_this_one(full: Path) -> None:
    results.packaged(full / "triage" / "int8", "of another package", "bench", "domain", "verify")
    report, shown = _page(full)
    int8 = report["models"][0]["precisions"][1]
    assert int8["performance"] is int8["domain"] is None
    assert int8["deployed"]["verified"] is False
    assert int8["stale"] == ["domain", "bench", "verify"]
    told = "int8: domain, bench and verify were measured on an earlier package: run doit "
    command = "domain:triage-int8 bench:triage-int8 verify:triage-int8"
    assert told + command in shown.text.replace("\N{NO-BREAK SPACE}", " ")
    assert told + command in text.text(report)
    results.packaged(full / "triage" / "int8", None, "bench", "domain", "verify")
    again = results.collected(full)["models"][0]["precisions"][1]
    assert again["performance"] and again["domain"] and again["stale"] == []


class _Page(HTMLParser):
    """What a page shows, and where from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sourced: list[dict[str, str]] = []
        self.prose: list[str] = []
        self.commands: list[str] = []
        self.heads: list[dict[str, str | None]] = []
        self.pictures: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.referred: set[str] = set()
        self.root: dict[str, str | None] = {}
        self.title = self.text = ""
        self.tables = self.captions = 0
        self._open: list[tuple[str, dict[str, str] | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "xlink:href")]
        for name in ("aria-labelledby", "href"):
            self.referred |= {word.removeprefix("#") for word in (found.get(name) or "").split() if word != "data:,"}
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag == "html":
            self.root = found
        if tag == "th":
            self.heads.append(found)
        if tag == "svg":
            self.pictures.append(found)
        element = None
        if "data-path" in found or "data-command" in found:
            element = {name: value or "" for name, value in attrs} | {"text": ""}
            (self.sourced if "data-path" in found else []).append(element)
        if tag not in ("meta", "link", "br", "wbr"):
            self._open.append((tag, element))

    def handle_endtag(self, tag: str) -> None:
        while self._open:
            closed, element = self._open.pop()
            if element and "data-command" in element:
                self.commands.append(element["text"])
            if closed == tag:
                return

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        if "style" in tags or "svg" in tags or "pre" in tags:
            return
        if "title" in tags:
            self.title += data
        self.text += data
        owner = next((element for _, element in reversed(self._open) if element), None)
        if owner:
            owner["text"] += f"^{data}" if tags[-1] == "sup" else data
        else:
            self.prose.append(data)


def _check(element: dict[str, str], value: Any) -> None:
    """The text of an element is the value at its place in the report, rounded as far as the text is."""
    text = element["text"].replace("\xa0", " ").replace("−", "-")
    if "data-count" in element:
        value = len(value)
    if "data-json" in element:
        assert json.loads(text) == value
    elif "value" in element:
        assert json.loads(element["value"]) == value
        shown = re.fullmatch(r"(-?\d+(?:\.(\d+))?)(?:×10\^(-?\d+))?(.*)", text)
        assert shown, text
        scale = 10.0 ** int(shown[3] or 0) / _multiple(shown[4].strip(), element["data-path"])
        half = 0.5000001 * 10.0 ** -len(shown[2] or "") * scale
        assert float(shown[1]) * scale == pytest.approx(value, rel=0, abs=half), element
    elif isinstance(value, bool):
        assert text == json.dumps(value)
    else:
        assert text == str(value)


def _multiple(unit: str, place: str) -> float:
    """What a value of the report was multiplied with to be shown in `unit`."""
    if unit == "%":
        return 1 if place.endswith(("score", "schema_valid")) else 100
    if unit == "ms":
        return 1000 if place.endswith("cpu_seconds_per_token") else 1
    return {"": 1, "×": 1, "s": 1, "kB": 1e-3, "MB": 1e-6, "GB": 1e-9}[unit]


def _at(report: Any, place: str) -> Any:
    """The value at a place such as `models.0.name`; a key may hold dots itself."""
    if not place:
        return report
    if isinstance(report, list):
        first, _, rest = place.partition(".")
        return _at(report[int(first)], rest)
    key = max((key for key in report if place == key or place.startswith(f"{key}.")), key=len)
    return _at(report[key], place[len(key) + 1 :])


def _without(text: str, names: list[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "")
    return PROSE.sub("", text)


def _report(build: Path) -> dict[str, Any]:
    return copy.deepcopy(results.collected(build, MODELS, {"threads": 2})) | {"changes": None}


def _page(build: Path) -> tuple[dict[str, Any], _Page]:
    report = _report(build)
    return report, _Page(page.page(report))

"""The page as people see it: in Chromium, opened as a file, with the network off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.report import page, picture
from tests.report import results
from tests.report.browser import Browser
from tests.report.results import MODELS

pytestmark = pytest.mark.needs("browser")

#: Contrast of every text that is seen with what lies behind it, by WCAG 2.2: (L1 + 0.05) / (L2 + 0.05).
CONTRAST = """
(() => {
  const parse = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length && (colour.length < 4 || colour[3] === 1)) return colour;
    }
    return null;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest('title, desc, style') || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), inside = element.closest('svg');
    const ink = parse(inside ? style.fill : style.color), paper = behind(element);
    if (!paper) { found.push({text, ratio: 0, paper: 'none'}); continue; }
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    found.push({text: text.slice(0, 60), ratio: (a + 0.05) / (b + 0.05), ink, paper,
      // An exponent may be smaller than what it stands at.
      size: parseFloat(style.fontSize) / (element.closest('sup') ? 0.78 : 1)});
  }
  return found;
})()
"""
TEXT = "document.body.innerText"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = results.make_full(tmp_path_factory.mktemp("build"))
    before = results.collected(build, MODELS) | {"changes": None}
    entry = {"model": "triage", "precision": "int4", "metric": "tg128", "before": 80.0, "after": 61.2, "noise": 0.1,
             "kind": "regression"}  # fmt: skip
    before["changes"] = {"accepted_at": "2026-11-20T10:00:00+00:00", "note": "good", "entries": [entry]}
    file = tmp_path_factory.mktemp("report") / "index.html"
    file.write_text(page.page(before), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def test_it_asks_for_nothing_but_itself_and_complains_of_nothing(browser: Browser, report: Path) -> None:
    _show(browser, report, 1280)
    asked = [event["params"]["request"]["url"] for event in _events(browser, "Network.requestWillBeSent")]
    assert asked == [report.resolve().as_uri()]
    assert _events(browser, "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown") == []


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_never_scrolls_sideways(browser: Browser, report: Path, width: int) -> None:
    _show(browser, report, width)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    # Nor is anything cut off: what is wider scrolls in a box of its own.
    cut = browser.ask(
        "[...document.querySelectorAll('main *')]"
        ".filter(e => !e.closest('.scroll, svg, .unseen') && e.checkVisibility()"
        f" && e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert cut == []


@pytest.mark.parametrize(
    ("scheme", "medium", "width"),
    [(scheme, "screen", width) for scheme in ("light", "dark") for width in (375, 1280)]
    + [("light", "print", 688), ("dark", "print", 688)],  # A4 without its margins
)
def test_all_text_is_legible(browser: Browser, report: Path, scheme: str, medium: str, width: int) -> None:
    _show(browser, report, width, scheme=scheme, medium=medium)
    found = browser.ask(CONTRAST)
    assert len(found) > 200
    assert [text for text in found if text["ratio"] < 4.5] == []
    least = 8 if medium == "print" else 11  # of a chart that is shown smaller, see below
    assert [text for text in found if text["size"] < least] == []
    # A chart that is scaled down takes its letters along.
    scales = browser.ask(
        "[...document.querySelectorAll('svg')].filter(e => e.checkVisibility())"
        ".map(e => e.getBoundingClientRect().width / e.viewBox.baseVal.width)"
    )
    assert scales
    assert min(scales) > 0.85


def test_dark_is_dark_and_print_is_light(browser: Browser, report: Path) -> None:
    papers = {}
    for scheme, medium in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        _show(browser, report, 1280, scheme=scheme, medium=medium)
        papers[scheme, medium] = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert papers["light", "screen"] == papers["dark", "print"] == "rgb(255, 255, 255)"
    assert max(map(int, re.findall(r"\d+", papers["dark", "screen"]))) < 40


def test_without_scripts_nothing_is_missing(browser: Browser, report: Path) -> None:
    _show(browser, report, 1280)
    with_scripts = browser.ask(TEXT)
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        _show(browser, report, 1280)
        assert browser.ask(TEXT) == with_scripts
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_print_unfolds_what_is_folded(browser: Browser, report: Path) -> None:
    _show(browser, report, 800)
    folded = (
        "[...document.querySelectorAll('details:not([open]) table')]"
        ".filter(e => e.checkVisibility({contentVisibilityAuto: true})).length"
    )
    assert browser.ask(folded) == 0
    _show(browser, report, 800, medium="print")
    assert browser.ask(folded) == browser.ask("document.querySelectorAll('details table').length") > 0
    made = browser.send("Page.printToPDF", printBackground=True)
    assert made["data"].startswith("JVBERi")  # %PDF, in base64


def test_every_chart_has_a_name_for_those_who_do_not_see_it(browser: Browser, report: Path) -> None:
    _show(browser, report, 1280)
    browser.send("Accessibility.enable")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img") and not node["ignored"]]
    assert len(images) >= 6
    assert all(node["name"]["value"] for node in images)


def test_a_picture_can_be_taken(report: Path, tmp_path: Path) -> None:
    picture.picture(report, tmp_path / "docs" / "report.png", 900, 700)
    taken = (tmp_path / "docs" / "report.png").read_bytes()
    assert taken.startswith(b"\x89PNG")
    assert (int.from_bytes(taken[16:20]), int.from_bytes(taken[20:24])) == (900, 700)
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["report.png"]


def _show(browser: Browser, report: Path, width: int, scheme: str = "light", medium: str = "screen") -> None:
    browser.window(width)
    browser.media(scheme=scheme, medium=medium)
    browser.open(report)


def _events(browser: Browser, *methods: str) -> list[dict[str, Any]]:
    return [event for event in browser.events if event.get("method") in methods]

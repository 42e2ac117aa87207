"""junit.xml: each gate is a test to whoever runs builds."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from scripts.report import junit
from tests.report import results


def rows(told: dict[str, object]) -> dict[tuple[str, str], str]:
    """Class and name of a case → how it ended."""
    root = ElementTree.fromstring(junit.junit(told))
    return {
        (case.get("classname", ""), case.get("name", "")): next((child.tag for child in case), "passed")
        for case in root.iter("testcase")
    }


def test_a_refusal_is_a_failure_and_what_broke_an_error(build: Path) -> None:
    found = rows(results.collected(build))
    assert found["triage.export", "quality"] == "passed"
    assert found["triage.int4", "quality"] == "failure" and found["triage.int8", "verify"] == "passed"
    assert found["triage.fp16", "build"] == "error"


def test_it_is_counted_and_says_why(build: Path) -> None:
    root = ElementTree.fromstring(junit.junit(results.collected(build)))
    [suite] = root.findall("testsuite")
    assert suite.get("tests") == str(len(suite.findall("testcase"))) and suite.get("errors") == "1"
    assert any("above the gate of 0.25" in failure.get("message", "") for failure in suite.iter("failure"))


def test_strangers_words_stay_words(build: Path) -> None:
    told = results.collected(build)
    told["models"][0]["precisions"][0]["quality"]["reasons"] = ['"/><failure/>\x00\x1b[31m']
    assert len(ElementTree.fromstring(junit.junit(told)).findall(".//failure")) == int(
        ElementTree.fromstring(junit.junit(told)).get("failures", "")
    )
    assert "\x1b" not in junit.junit(told)

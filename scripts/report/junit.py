"""The verdicts of a report as JUnit XML, so that a continuous integration shows each gate as a test.

The form is that of Apache Ant's JUnit task, as Jenkins, GitLab, Azure Pipelines and GitHub's actions read it: a suite a
model, a case for each thing that was judged; refused is a failure, broken an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from scripts.common.visible import line

#: What a precision is judged by: field of the report → what the case is called.
_JUDGED = {"quality": "quality", "domain": "domain", "deployment": "deploy", "verification": "verify"}
_TAGS = {"refused": "failure", "failed": "error", "skipped": "skipped"}


def junit(report: Mapping[str, Any]) -> str:
    """The XML of what report.json holds."""
    suites = ElementTree.Element("testsuites", name="ingot")
    for model in report["models"]:
        suite = ElementTree.SubElement(suites, "testsuite", name=line(model["name"]))
        for subject, name, verdict, reasons in _cases(model):
            _add(suite, f"{model['name']}.{subject}", name, verdict, reasons)
        _count(suite)
    _count(suites)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _cases(model: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[str]]]:
    """What was judged, by what, the verdict and the reasons."""
    for subject, row in (("export", model["export"]), *((row["precision"], row) for row in model["precisions"])):
        told = False
        for field, name in _JUDGED.items():
            if part := row.get(field):
                told |= part["verdict"] == row["verdict"]
                yield subject, name, part["verdict"], part["reasons"]
        if not told:  # it broke before anything could be judged
            yield subject, "build", row["verdict"], row["reasons"]


def _add(suite: ElementTree.Element, subject: str, name: str, verdict: str, reasons: list[str]) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=line(subject), name=name, time="0")
    text = line("; ".join(reasons))
    if tag := _TAGS.get(verdict):
        ElementTree.SubElement(case, tag, message=text)
    elif text:
        ElementTree.SubElement(case, "system-out").text = f"{verdict}: {text}"


def _count(suite: ElementTree.Element) -> None:
    suite.set("tests", str(len(suite.findall(".//testcase"))))
    for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f".//{tag}"))))

"""One place says which version of each outside tool was tested: nothing else may say another."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.common import tools
from scripts.common.tools import LOADS, PLUMBING, TOOLS, Tool

ROOT = Path(__file__).resolve().parents[2]


def pinned(lock: str) -> dict[str, str]:
    """The version of each distribution in one of the lock files."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE))


LOCK = pinned("requirements.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DECLARED = [*PROJECT["dependencies"], *(row for extra in PROJECT["optional-dependencies"].values() for row in extra)]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def texts() -> Iterator[Path]:
    """What speaks of versions: documents, configuration and code."""
    yield from ROOT.glob("*.md")
    yield from (ROOT / "dodo.py", ROOT / "Makefile", *ROOT.glob("config/*.toml"), *ROOT.glob("config/**/README.md"))
    yield from (path for path in sorted((ROOT / "scripts").rglob("*")) if path.suffix in (".py", ".j2"))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.distribution)
def test_lock_and_pyproject_take_the_version_that_was_tested(tool: Tool) -> None:
    pinned = [version for name, version in LOCK.items() if name.lower() == tool.distribution]
    assert pinned == ([] if tool.optional else [tool.tested])
    if not tool.optional:
        assert tools.installed(tool.distribution).partition("+")[0] == tool.tested, "run `make setup`"
    for row in DECLARED:
        name, bounds = re.fullmatch(r"([\w.-]+)(.*)", row).groups()
        for bound, version in re.findall(r"(==|>=|<)([\d.]+)", bounds if name == tool.distribution else ""):
            least, most = numbers(version), numbers(tool.tested)
            assert {"==": least == most, ">=": least <= most, "<": most < least}[bound], row


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.distribution)
def test_no_text_names_another_version(tool: Tool) -> None:
    """A version cut short ("0.18") stands for the one that was tested; `others` are told of for a reason."""
    known = {version for version, _ in tool.others}
    names = "|".join(map(re.escape, sorted(tool.called, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w-])(?:{names})(?:`|'s|,)?\s*(?:==|>=|≥|≤|<|v|from|of|up to)?\s*(\d+(?:\.\d+)+)")
    wrong = []
    for path in texts():
        for match in pattern.finditer(path.read_text(encoding="utf-8")):
            told = match[1]
            if told not in known and numbers(told) != numbers(tool.tested)[: len(numbers(told))]:
                wrong.append(f"{path.relative_to(ROOT)}: {match[0]!r}, tested with {tool.tested}")
    assert not wrong


def test_every_text_means_the_same_python() -> None:
    least = ".".join(map(str, tools.PYTHON))
    assert PROJECT["requires-python"] == f">={least}"
    for path in texts():
        for told in re.findall(r"Python (?:≥|>=)?\s*(3\.\d+)(?: or newer)", path.read_text(encoding="utf-8")):
            assert told == least, path


def test_every_import_of_another_distribution_is_known_to_act_or_not_to() -> None:
    """So that no key misses it: whoever adds an import says here what a new version of it means."""
    unknown = set()
    for path in (ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            tops = {name.split(".")[0] for name in named} - {
                "scripts",
                "doit",
                "hatchling",
            }  # of doit and of packaging, which run no step
            unknown |= {(top, path.name) for top in tops if top not in LOADS and top not in sys.stdlib_module_names}
    assert not unknown


def test_what_can_not_act_says_why() -> None:
    told = {name for names in PLUMBING.values() for name in names}
    silent = {name.replace("_", "-") for name, brings in LOADS.items() if not brings}
    assert silent <= told


def test_a_longer_import_brings_more() -> None:
    assert "torch" not in tools.versions(["onnxruntime_genai"])
    assert {"torch", "onnxruntime-genai"} <= set(tools.versions(["onnxruntime_genai.models.builder"]))


def needed(rows: Iterable[str]) -> set[str]:
    """The distributions that these requirements name, and all that those need in turn."""
    found, pending = dict[str, set[str]](), [Requirement(row) for row in rows]
    while pending:
        row = pending.pop()
        name = canonicalize_name(row.name)
        if name in found and row.extras <= found[name]:
            continue
        extras = found.setdefault(name, set())
        extras |= row.extras
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # of another system
            below = [Requirement(text) for text in importlib.metadata.requires(name) or []]
            pending += [
                other
                for other in below
                if not other.marker or any(other.marker.evaluate({"extra": extra}) for extra in ("", *extras))
            ]
    return set(found)


def test_the_lock_of_a_build_holds_all_that_it_needs_and_nothing_that_only_tests_do() -> None:
    extras = PROJECT["optional-dependencies"]
    building, testing = needed([*PROJECT["dependencies"], "hatchling"]), needed(extras["dev"])
    locks = ("requirements.lock", "requirements-dev.lock")
    built, tested = ({canonicalize_name(name) for name in pinned(lock)} for lock in locks)
    assert built == building - {"setuptools"}
    assert tested <= testing - building and testing - building - tested <= {"setuptools"}

"""`doit why` names each change with old and new, says what follows, at what cost, and runs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.engine import reasons as why_stale
from tests.engine.projects import CHEAP, Project
from tests.faults import forked


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", CHEAP)
    made.write("src/a/z.txt", "second shard")
    forked.run(made)
    return made


def why(project: Project, *words: str) -> dict[str, Any]:
    before = project.contents()
    found: dict[str, Any] = json.loads(forked.run(project, "why", "--json", *words))
    assert project.contents() == before
    return found


def reasons(found: dict[str, Any]) -> dict[str, list[str]]:
    return {due["task"]: [f"{reason['kind']}: {reason['what']}" for reason in due["reasons"]]
            for due in found["would_run"]}  # fmt: skip


def test_nothing_to_do_is_said(project: Project) -> None:
    assert why(project)["would_run"] == []
    assert "nothing would run" in forked.run(project, "why")


def test_the_changed_file_of_a_folder_is_named_and_what_follows(project: Project) -> None:
    project.write("src/a/z.txt", "another shard")
    found = why(project)
    assert reasons(found) == {
        "copy:a": ["input changed: source/z.txt"],
        "split:a": [],
        "join": [],
        "relink": [],
        "count": [],
    }
    due = {row["task"]: row for row in found["would_run"]}
    assert due["join"]["follows"] == ["split:a"]
    change = due["copy:a"]["reasons"][0]
    assert change["old"] != change["new"] and len(change["old"]) == 12
    assert due["copy:a"]["seconds"] > 0 and due["copy:a"]["peak_rss_bytes"] > 0
    assert found["seconds"] == pytest.approx(sum(row["seconds"] for row in found["would_run"]), abs=0.01)
    assert "follows split:a, unless it comes out the same" in forked.run(project, "why")


def test_another_order_of_the_same_inputs_is_told_as_that(project: Project) -> None:
    project.set("join", inputs=["copy:b", "split:a"])
    [join, *_] = why(project)["would_run"]
    assert join["reasons"] == [
        {"kind": "order changed", "what": "source", "old": "split:a, copy:b", "new": "copy:b, split:a"}
    ]


def test_another_order_of_a_parameter_is_told_as_that() -> None:
    before, after = (
        {"parameters": {"precisions": order}} for order in (["int4", "int8", "fp16"], ["int8", "fp16", "int4"])
    )
    [reason] = why_stale.changes(before, after, {}, {}, {})
    assert str(reason) == 'parameter changed: precisions: ["int4", "int8", "fp16"] → ["int8", "fp16", "int4"]'


def test_a_changed_parameter_shows_old_and_new(project: Project) -> None:
    project.set("split:a", parameters={"size": 7})
    assert why(project)["would_run"][0]["reasons"] == [
        {"kind": "parameter changed", "what": "size", "old": "4", "new": "7"}
    ]


def test_what_a_folder_gained_and_lost_is_said(project: Project) -> None:
    project.write("src/a/new.txt", "new")
    (project.folder / "src/a/z.txt").unlink()
    said = forked.run(project, "why", "copy:a")
    assert "input added: source/new.txt\n" in said and "input removed: source/z.txt\n" in said


def test_the_cost_is_that_of_the_last_runs_and_says_what_it_leaves_out(project: Project) -> None:
    project.declare([*CHEAP, {"name": "new", "verb": "copy", "inputs": ["copy:b"]}])
    project.write("src/b/y.txt", "other")
    last = forked.run(project, "why").splitlines()
    summary = next(line for line in last if "would run" in line)
    assert summary.startswith("5 would run: ") and summary.endswith("; 1 never ran here") and "MiB at most" in summary


def test_a_field_within_a_recipe_is_named() -> None:
    from scripts.engine.reasons import changes

    old = {"parameters": {"recipe": {"passes": [{"bits": 4, "block": 32}]}}}
    new = {"parameters": {"recipe": {"passes": [{"bits": 4, "block": 64}]}}}
    assert str(changes(old, new, {}, {}, {})[0]) == "parameter changed: recipe.passes[0].block: 32 → 64"


def test_damage_absence_and_failure_are_told_apart(project: Project) -> None:
    (project.build / "join/all.txt").write_text("harm")
    (project.build / "count.json").unlink()
    rows = [*CHEAP, {"name": "new", "verb": "copy", "inputs": ["src/b"]},
            {"name": "broken", "verb": "fail", "inputs": ["src/b"]}]  # fmt: skip
    project.declare(rows)
    forked.run(project, "broken", code=1)
    found = reasons(why(project))
    assert (
        found["join"] == ["output changed by hand: all.txt changed (was 19 bytes, is 4)"]
        or "changed by hand" in (found["join"][0])
    )
    assert found["count"][0] == "output missing: count.json"
    assert found["new"] == ["never built: "]
    assert found["broken"][0].startswith("failed last time: ") and "taste" in found["broken"][0]


def test_only_what_is_asked_for_is_explained(project: Project) -> None:
    project.write("src/b/y.txt", "other")
    assert set(reasons(why(project, "split:a"))) == set()
    assert set(reasons(why(project, "copy"))) == {"copy:b"}
    assert "nope" in forked.run(project, "why", "nope", code=3)


def test_a_missing_input_is_a_reason(project: Project) -> None:
    (project.folder / "src/b/y.txt").unlink()
    (project.folder / "src/b").rmdir()
    assert "is not there" in reasons(why(project))["copy:b"][0]


def test_check_by_stamp_and_by_content(project: Project) -> None:
    assert forked.run(project, "check").startswith("6 whole")
    assert forked.run(project, "check", "--deep").startswith("6 whole")
    provenance = project.build / "copy/b/provenance.json"
    provenance.write_text(provenance.read_text().replace('"text copy"', '"text cope"'))
    assert "its provenance changed" in forked.run(project, "check", code=1)
    (project.build / "split/a/manifest.json").write_text("{}")
    assert "split:a: has no manifest" in forked.run(project, "check", code=1)
    forked.run(project)
    assert forked.run(project, "check", "--deep").startswith("6 whole")

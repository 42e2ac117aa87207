"""What is stale and what is not: through doit, on cheap verbs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from scripts.common.machine import usable_cores
from tests.engine.projects import CHEAP, Project, install, ran

#: More than any machine has.
ALL_MEMORY = {"likely_bytes": 1 << 60}
EVERYTHING = {str(row["name"]) for row in CHEAP}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = Project(tmp_path_factory.mktemp("made") / "project")
    assert project.built() == EVERYTHING
    return project.folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    """A finished build, copied: also a test that a copied build is whole."""
    shutil.copytree(made, tmp_path / "copied folder", symlinks=True)
    found = Project.__new__(Project)
    found.folder, found.build = tmp_path / "copied folder", tmp_path / "copied folder" / "build"
    return found


def test_a_copied_build_is_up_to_date(project: Project) -> None:
    assert project.built() == set()


def test_a_moved_build_is_up_to_date(project: Project) -> None:
    project.build.rename(project.folder / "elsewhere")
    assert project.built("build=elsewhere") == set()


def test_a_changed_input_rebuilds_what_depends_on_it(project: Project) -> None:
    project.write("src/b/y.txt", "gamma")
    assert project.built() == {"copy:b", "join", "relink", "count"}
    assert project.built() == set()


def test_touching_an_input_rebuilds_nothing(project: Project) -> None:
    os.utime(project.folder / "src/b/y.txt")
    assert project.built() == set()


def test_an_edit_that_keeps_size_and_mtime_is_seen(project: Project) -> None:
    file = project.folder / "src/b/y.txt"
    before = file.stat()
    file.write_text("BETA")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "copy:b" in project.built()


def test_what_comes_out_the_same_stops_the_rebuild(project: Project) -> None:
    project.write("src/a/x.txt", "alpha and omega")
    project.declare([*CHEAP[:3], {"name": "first", "verb": "first", "inputs": ["copy:a"]},
                     {"name": "count2", "verb": "count", "inputs": ["first"]}])  # fmt: skip
    assert project.built() == {"first", "count2"}
    project.write("src/a/x.txt", "another text")
    assert project.built() == {"copy:a", "split:a", "first"}


def test_a_changed_parameter_rebuilds_its_step(project: Project) -> None:
    project.set("split:a", parameters={"size": 5})
    assert project.built() == {"split:a", "join"}  # and no more: joined again, the pieces are what they were


def test_an_output_changed_by_hand_is_made_right(project: Project) -> None:
    right = project.contents()
    (project.build / "split/a/0-x.txt/000").write_text("wrong")
    assert "split:a" in project.built()
    assert project.contents() == right


def test_an_added_file_in_an_artifact_is_taken_out(project: Project) -> None:
    (project.build / "join/extra.txt").write_text("extra")
    assert project.built() == {"join"}
    assert not (project.build / "join/extra.txt").exists()


def test_an_edited_manifest_is_seen(project: Project) -> None:
    file = project.build / "copy/b/manifest.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["0-y.txt"]["size"] += 1
    file.write_text(json.dumps(manifest))
    assert "copy:b" in project.built()


def test_a_result_edited_by_hand_is_made_right(project: Project) -> None:
    file = project.build / "count.json"
    right = file.read_text()
    file.write_text(right.replace("passed", "warned"))
    assert project.built() == {"count"}
    assert file.read_text() == right


def test_a_users_folder_may_hold_a_manifest_of_its_own(project: Project) -> None:
    project.write("src/a/manifest.json", "{}")
    assert "copy:a" in project.built()
    project.write("src/a/manifest.json", "[]")
    assert "copy:a" in project.built()


def test_users_files_are_referred_to_and_watched(project: Project) -> None:
    project.declare([{"name": "refer", "verb": "refer", "inputs": ["src/a"]},
                     {"name": "count", "verb": "count", "inputs": ["refer"]}])  # fmt: skip
    project.doit()
    mode = (project.folder / "src/a/x.txt").stat().st_mode
    project.write("src/a/x.txt", "changed in place")
    said = project.doit()
    assert ran(said) == {"refer", "count"}
    assert (project.folder / "src/a/x.txt").stat().st_mode == mode
    (project.folder / "src/a/x.txt").unlink()
    project.write("src/a/other.txt", "x")
    assert ran(project.doit()) == {"refer", "count"}


def test_a_link_to_nothing_among_the_inputs_is_named(project: Project) -> None:
    (project.folder / "src/a/gone.txt").symlink_to(project.folder / "nowhere")
    assert "gone.txt" in project.doit(code=1)


def test_a_missing_input_is_named_and_others_go_on(project: Project) -> None:
    shutil.rmtree(project.folder / "src/a")
    project.write("src/b/y.txt", "delta")
    said = project.doit(code=1)
    assert "src/a" in said and "is not there" in said
    assert ran(said) == {"copy:b"}
    project.write("src/a/x.txt", "alpha and omega")
    assert project.built() >= {"join", "count"}


def test_what_is_wrong_with_two_inputs_is_told_by_the_step_that_comes_first(project: Project) -> None:
    gone = {"name": "gone", "verb": "copy", "inputs": ["src/nowhere"]}
    both = {"name": "both", "verb": "join", "inputs": ["gone", "src/nowhere"]}
    project.declare([gone, both])
    said = project.doit(code=1)
    assert "skipped: follows gone: failed" in said
    project.write("src/nowhere/x.txt", "here")
    assert project.built() == {"gone", "both"}


def test_a_pipe_among_the_inputs_does_not_hang(project: Project) -> None:
    os.mkfifo(project.folder / "src/a/pipe")
    assert "neither a file nor a folder" in project.doit(code=1)


def test_a_bumped_tool_version_rebuilds(project: Project, tmp_path: Path) -> None:
    project.set("join", tools=["a-tool"])
    assert project.built(PYTHONPATH=install(tmp_path, "1.0")) == {"join"}
    assert project.built(PYTHONPATH=install(tmp_path, "1.1")) == {"join"}


def test_what_tells_the_tools_of_others_is_made_again_where_only_these_changed(tmp_path: Path) -> None:
    tool = {"name": "copy", "verb": "copy", "inputs": ["src/a"], "tools": ["a-tool"]}
    told = {"name": "told", "verb": "tell", "inputs": ["join"], "tools_of": ["copy", "join"]}
    project = Project(tmp_path / "project", (tool, {"name": "join", "verb": "join", "inputs": ["copy"]}, told))
    project.doit(PYTHONPATH=install(tmp_path, "1.0"))
    newer = install(tmp_path, "1.1")
    assert 'parameter changed: tools.a-tool: "1.0" → "1.1"' in project.doit("why", "told", PYTHONPATH=newer)
    assert project.built(PYTHONPATH=newer) == {"copy", "told"}, "what is between comes out the same"
    assert "a-tool 1.1\n" in (project.build / "told/tools.txt").read_text()
    assert project.built(PYTHONPATH=newer) == set()


def test_forget_builds_again_and_no_more(project: Project) -> None:
    project.doit("forget", "join")
    said = project.doit()
    assert ran(said) == {"join"} and "restored" not in said


def test_clean_leaves_nothing_but_the_state(project: Project) -> None:
    project.doit("clean")
    assert project.contents() == {} and project.litter() == []
    assert project.built() == EVERYTHING


def test_a_refusal_stops_what_needs_it_and_no_more(project: Project) -> None:
    project.set("count", parameters={"at-most": 3})
    rows = [*json.loads((project.folder / "graph.json").read_text()),
            {"name": "after", "verb": "join", "inputs": ["count"]},
            {"name": "judge", "verb": "count", "verdicts": ["count"]}]  # fmt: skip
    project.declare(rows)
    said = project.doit()
    assert "– after" in said and "follows count: refused" in said and "judge" in ran(said)
    assert project.built() == set()


def test_what_only_follows_a_refusal_is_skipped_unless_it_is_named(project: Project) -> None:
    project.set("count", parameters={"at-most": 3})
    rows = [*json.loads((project.folder / "graph.json").read_text()),
            {"name": "bench:a", "verb": "copy", "inputs": ["copy:a"], "follows": ["count"], "alone": True}]  # fmt: skip
    project.declare(rows)
    assert "– bench:a" in (said := project.doit()) and "follows count: refused" in said
    assert project.built() == set()
    assert "✓ bench:a" in project.doit("bench:a")
    assert project.built() == set() and "bench:a" not in ran(project.doit("bench"))
    project.write("src/a/x.txt", "one more letter")
    assert "– bench:a" in project.doit()
    project.set("count", parameters={"at-most": 300})
    assert project.built() == {"count", "bench:a"}


@pytest.mark.parametrize(
    ("how", "found"),
    [("reason", "is not to this verb's taste"), ("silent", "made no broken"), ("crash", "killed by signal 6"),
     ("empty", "left broken empty"), ("partly", "broke half way")],
)  # fmt: skip
def test_a_failing_step_says_why_is_tried_again_and_keeps_what_was_there(
    project: Project, how: str, found: str
) -> None:
    project.declare([{"name": "broken", "verb": "copy", "inputs": ["src/a"]}])
    project.doit()
    right = project.contents()
    project.declare([{"name": "broken", "verb": "fail", "inputs": ["src/a"], "parameters": {"how": how}},
                     {"name": "after", "verb": "copy", "inputs": ["broken"]}])  # fmt: skip
    for _ in range(2):
        said = project.doit(code=1)
        assert found in said and "1 skipped, 1 failed" in said
    assert {name: digest for name, digest in project.contents().items() if not name.endswith(".failed.json")} == right
    assert project.litter() == []
    project.declare([{"name": "broken", "verb": "copy", "inputs": ["src/a"]}])
    assert project.built() == {"broken"}  # kept: it is what it was
    assert {name: digest for name, digest in project.contents().items() if "after" not in name} == right


def test_limits_of_time_and_memory_end_a_step(project: Project) -> None:
    broken = {"verb": "fail", "inputs": ["src/a"]}
    project.declare([
        {**broken, "name": "slow", "parameters": {"how": "hang"}, "limits": {"seconds": 0.5}},
        {**broken, "name": "big", "parameters": {"how": "memory"}, "limits": {"memory_bytes": 1 << 27}},
    ])  # fmt: skip
    said = project.doit(code=1)
    assert re.search(r"slow +failed: it ran longer than its limit of 0.5 s and was ended. .* raise its limit", said)
    assert re.search(r"big +failed: it used 0\.\d GiB of memory, its limit is 0.1 GiB, .* smaller model .* raise", said)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells cheaply which memory a system can take back")
def test_pages_of_a_file_do_not_count_as_memory_that_a_step_uses(project: Project) -> None:
    project.declare([{"name": "mapped", "verb": "map", "inputs": ["src/a"], "parameters": {"size": 1 << 28},
                      "limits": {"memory_bytes": 1 << 27}}])  # fmt: skip
    assert project.built() == {"mapped"}


def alone(measured: list[dict[str, float]], others: list[dict[str, float]]) -> bool:
    """Whether nothing ran while something was measured."""
    spans = [*measured, *others]
    return all(other["to"] <= one["from"] or other["from"] >= one["to"]
               for one in measured for other in spans if other is not one)  # fmt: skip


def test_measuring_steps_run_alone(project: Project) -> None:
    project.declare([{"name": f"clock{n}", "verb": "clock", "inputs": ["src/a"], "alone": n < 2} for n in range(4)])
    project.doit("-n", "4")
    spans = [json.loads((project.build / f"clock{n}.json").read_text()) for n in range(4)]
    assert alone(spans[:2], spans[2:])


def test_a_result_is_restored_for_a_step_that_calls_it_otherwise(project: Project) -> None:
    project.declare([{"name": f"clock{n}", "verb": "clock", "inputs": ["src/a"]} for n in range(2)])
    project.doit()
    assert (project.build / "clock0.json").read_text() == (project.build / "clock1.json").read_text()


def test_steps_that_need_all_the_memory_run_one_by_one(project: Project) -> None:
    project.declare([
        {"name": f"clock{n}", "verb": "clock", "inputs": ["src/a"], "stored": False, "limits": ALL_MEMORY}
        for n in range(3)
    ])  # fmt: skip
    said = project.doit("-n", "auto" if usable_cores() > 1 else "3")
    spans = [json.loads((project.build / f"clock{n}.json").read_text()) for n in range(3)]
    assert alone(spans, [])
    assert re.search(r"clock\d: waiting for memory that clock\d takes", said)


def test_what_a_step_took_the_last_time_is_what_it_waits_for(project: Project) -> None:
    rows = [
        {"name": f"clock{n}", "verb": "clock", "inputs": ["src/a"], "stored": False, "limits": ALL_MEMORY}
        for n in range(3)
    ]  # fmt: skip
    project.declare(rows)
    project.doit()
    assert "waiting for memory" not in project.doit("-a", "-n", "3")


def test_measuring_steps_run_alone_across_builds(project: Project) -> None:
    project.declare([{"name": f"clock{n}", "verb": "clock", "inputs": ["src/a"], "alone": n < 1} for n in range(3)])
    builds = [project.start("-n", "3", f"build=build{number}") for number in range(2)]
    said = [build.communicate(timeout=60)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    spans = [[json.loads((project.folder / f"build{number}/clock{n}.json").read_text()) for number in range(2)]
             for n in range(3)]  # fmt: skip
    assert alone(spans[0], [*spans[1], *spans[2]])


def test_a_plain_task_of_the_users_may_need_what_a_step_makes(project: Project) -> None:
    dodo = (project.folder / "dodo.py").read_text()
    project.write("dodo.py", dodo.replace("default_tasks=list(MADE)", 'default_tasks=["extra"]') + '''
def task_extra():
    """A task in doit's own way"""
    return {"actions": ["cp build/count.json extra.json"], "file_dep": ["build/count.json", "notes.txt"],
            "targets": ["extra.json"]}
'''.replace('"build/count.json", "notes', 'str(BUILD / "count.json"), "notes'))  # fmt: skip
    project.write("notes.txt", "first")
    assert project.built() == {"extra"}
    assert project.built() == set()
    project.write("notes.txt", "second")
    assert project.built() == {"extra"}
    project.write("src/b/y.txt", "something longer")
    assert project.built() == {"copy:b", "join", "relink", "count", "extra"}
    assert (project.folder / "extra.json").read_bytes() == (project.build / "count.json").read_bytes()
    (project.folder / "extra.json").unlink()
    assert project.built() == {"extra"}


def test_doit_says_of_a_plain_task_that_it_is_done(project: Project) -> None:
    dodo = (project.folder / "dodo.py").read_text()
    project.write("dodo.py", dodo + "\ndef task_plain():\n    return {'actions': ['true']}\n")
    said = project.doit("plain")
    assert "done" in said and "built" not in said


def test_a_path_among_the_parameters_is_refused_in_one_line(project: Project) -> None:
    """It would make the key depend on where the build is; doit's own config_changed ends in a traceback."""
    dodo = (project.folder / "dodo.py").read_text()
    project.write("dodo.py", dodo.replace('parameters=row.get("parameters", {})', 'parameters={"where": HERE}'))
    assert "a parameter can't be part of a key" in project.doit(code=1)


def test_a_preflight_comes_before_anything_is_read(project: Project) -> None:
    project.write(
        "early.py",
        """
from scripts.common.errors import IngotError
def check(path):
    print("looked at", path.name)
    if (path / "bad").exists():
        raise IngotError(path, "is bad", "Make it good")
""",
    )
    project.declare([{"name": "copy:b", "verb": "copy", "inputs": ["src/b"], "preflight": {"source": "early:check"}}])
    path = os.pathsep.join(filter(None, [str(project.folder), os.environ.get("PYTHONPATH")]))
    project.doit(PYTHONPATH=path)
    assert "looked at" not in project.doit(PYTHONPATH=path), "what was read before is not looked at again"
    project.write("src/b/bad", "")
    os.mkfifo(project.folder / "src/b/z")  # to read this would be an error of its own
    said = project.doit(PYTHONPATH=path, code=1)
    assert "is bad. Make it good" in said and "neither a file" not in said
    assert "input unusable" in project.doit("why", PYTHONPATH=path)


def test_what_a_result_claims_of_the_world_is_looked_at(project: Project) -> None:
    where = project.folder / "elsewhere"
    project.declare([{"name": "place", "verb": "place", "inputs": ["src/b"], "parameters": {"where": str(where)}}])
    assert project.built() == {"place"}
    assert project.built() == set()
    where.unlink()
    assert "no longer so" in project.doit("why") and "elsewhere is gone" in project.doit("check", code=1)
    assert project.built() == {"place"}
    assert where.exists()


def test_list_and_info_show_what_a_step_reads_and_why_it_would_run(project: Project) -> None:
    shown = project.doit("list", "--all", "--deps")
    lines = shown.splitlines()
    join = next(number for number, line in enumerate(lines) if line.startswith("join"))
    assert sorted(lines[join + 1 : join + 3]) == [f" -  {project.build}/copy/b/manifest.json",
                                                  f" -  {project.build}/split/a/manifest.json"]  # fmt: skip
    assert f" -  {project.folder}/src/a/x.txt" in lines
    project.set("split:a", parameters={"size": 5})
    info = project.doit("info", "split:a", code=1)
    assert " * parameter changed: size: 4 → 5" in info and "args=" not in info
    assert f" - {project.build}/copy/a/manifest.json" in info


def test_forget_without_default_tasks_is_no_traceback(project: Project) -> None:
    dodo = (project.folder / "dodo.py").read_text()
    project.write("dodo.py", dodo.replace("default_tasks=list(MADE)", ""))
    project.doit("forget")
    assert project.built() == EVERYTHING


def test_the_report_is_made_though_a_part_failed_and_the_build_exits_1(project: Project) -> None:
    project.declare([*CHEAP, {"name": "broken", "verb": "fail", "inputs": ["src/b"]},
                     {"name": "report", "verb": "count", "verdicts": ["count", "broken"]}])  # fmt: skip
    assert "report" in project.built(code=1)
    assert json.loads((project.build / "report.json").read_text())["verdict"] == "passed"

"""Steps on the workers of a Dask scheduler: the same bytes as here, whoever dies on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.dask import PLENTY, Dask, kill
from tests.engine.projects import ROOT, Project, install
from tests.faults import forked

pytestmark = pytest.mark.needs("distributed")

#: What is made where its files are; an artifact of it that takes a while; what reads a result too; and a measurement.
GRAPH = (
    {"name": "copy", "verb": "copy", "inputs": ["src/a", "src/b"]},
    {"name": "refer", "verb": "refer", "inputs": ["src/b"]},
    {"name": "slow", "verb": "copy", "inputs": ["copy"], "parameters": {"delay": 1.5, "suffix": "!"}},
    {"name": "split", "verb": "split", "inputs": ["refer"]},
    {"name": "count", "verb": "count", "inputs": ["slow", "src/a"]},
    {"name": "join", "verb": "join", "inputs": ["slow", "count", "split"]},
    {"name": "told", "verb": "tell", "inputs": ["join"], "tools_of": ["slow"]},
)
MEASURED = (GRAPH[0], {"name": "clock", "verb": "clock", "inputs": ["copy"], "alone": True})


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    (tmp_path / "dask").mkdir()
    made = Dask(tmp_path / "dask")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the graph makes on this machine alone."""
    project = Project(tmp_path_factory.mktemp("alone") / "project", GRAPH)
    project.doit()
    return contents(project)


def contents(project: Project) -> dict[str, str]:
    return {name: digest for name, digest in project.contents().items() if not name.startswith(".fetched")}


def shared(folder: Path, dask: Dask, graph: object = GRAPH) -> Project:
    place = folder / "mnt"
    place.mkdir(exist_ok=True)
    project = Project(folder / "project", graph)  # type: ignore[arg-type]
    project.share(place.as_uri(), write=True, cluster=dask.address)
    return project


def built_on(said: str) -> dict[str, str]:
    """Step → worker."""
    rows = [line.split() for line in said.splitlines() if line.startswith("✓ ") and " on tcp:" in line]
    return {row[1]: row[-1] for row in rows}


def whole(project: Project, right: dict[str, str]) -> None:
    """Nothing half-made, here or in the store."""
    assert contents(project) == right and project.litter() == []
    assert not list((project.folder.parent / "mnt").rglob("*.part"))
    assert "whole" in project.doit("check", "--deep")


def test_workers_make_the_same_bytes(dask: Dask, right: dict[str, str], tmp_path: Path) -> None:
    dask.work()
    dask.work()
    project = shared(tmp_path, dask)
    said = project.doit("-n", "3")
    assert built_on(said).keys() == {"slow", "split", "count", "join", "told"}, said
    whole(project, right)
    assert "7 up to date" in project.doit()


def during(project: Project, dask: Dask, act: Callable[[int], object]) -> str:
    """Run doit, and do something to the worker that is at the slow step."""
    doit = project.start("-n", "2")
    forked.wait_for(lambda: dask.at("slow") is not None or doit.poll() is not None, 90)
    number = dask.at("slow")
    assert number is not None, doit.communicate()[0]
    act(number)
    said = doit.communicate(timeout=300)[0]
    assert "Traceback" not in said, said
    return str(said)


def test_a_worker_that_is_killed_costs_its_step_once_more(dask: Dask, right: dict[str, str], tmp_path: Path) -> None:
    dask.work()
    dask.work()
    project = shared(tmp_path, dask)
    said = during(project, dask, lambda number: kill(dask.workers[number]))
    assert "slow" in built_on(said), said
    whole(project, right)


def test_a_scheduler_that_is_restarted_is_asked_again(dask: Dask, right: dict[str, str], tmp_path: Path) -> None:
    dask.work()
    dask.work()
    project = shared(tmp_path, dask)
    said = during(project, dask, lambda _: dask.restart())
    assert "once more" in said and "slow" in built_on(said), said
    whole(project, right)


@pytest.mark.long
def test_a_scheduler_that_hangs_does_not_hang_the_build(dask: Dask, right: dict[str, str], tmp_path: Path) -> None:
    dask.work()
    project = shared(tmp_path, dask)
    said = during(project, dask, lambda _: os.kill(dask.scheduler.pid, signal.SIGSTOP))
    assert not built_on(said).keys() - {"split"}, said  # which may have come first
    assert said.count("building it here, and all that follows") == 1, said
    whole(project, right)


@pytest.mark.long
def test_a_scheduler_that_goes_between_two_steps_of_its_workers_ends_no_build(dask: Dask, tmp_path: Path) -> None:
    dask.work()
    here = {**GRAPH[2], "name": "here", "inputs": ["slow"], "tied": True, "parameters": {"delay": 7}}  # 14 s
    project = shared(tmp_path, dask, (*GRAPH[:1], GRAPH[2], here, {"name": "join", "verb": "join", "inputs": ["here"]}))
    doit = project.start()
    forked.wait_for(lambda: [*project.build.glob(".work/here.*")] or doit.poll() is not None, 90)
    kill(dask.scheduler)
    said = doit.communicate(timeout=300)[0]
    assert doit.returncode == 0 and built_on(said).keys() == {"slow"}, said
    assert said.count("building it here, and all that follows") == 1, said


def test_what_cannot_be_put_into_the_store_is_built_here_at_once(dask: Dask, tmp_path: Path) -> None:
    dask.work()
    dask.work()
    project, place = shared(tmp_path, dask, (GRAPH[0], GRAPH[2])), tmp_path / "mnt"

    def lose(_: int) -> None:
        place.rename(tmp_path / "lost")
        place.write_text("a file, where the store was")

    said = during(project, dask, lose)
    assert said.count("what was made can't be put into the shared store") == 1, said
    assert "✓ slow" in said and not built_on(said) and "the shared store has no" not in said, said


@pytest.mark.long
def test_without_a_scheduler_all_is_built_here(dask: Dask, right: dict[str, str], tmp_path: Path) -> None:
    dask.stop()
    project = shared(tmp_path, dask)
    said = project.doit("-n", "3")
    assert said.count("can't be reached") == 1 and "building it here" in said and not built_on(said), said
    whole(project, right)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_ends_a_build_ends_its_steps_elsewhere(number: signal.Signals, dask: Dask, tmp_path: Path) -> None:
    dask.work()
    project = shared(tmp_path, dask)
    project.set("slow", parameters={"delay": 300})
    doit = project.start()
    forked.wait_for(lambda: dask.at("slow") is not None, 90)
    forked.wait_for(lambda: children(dask), 30)
    os.killpg(doit.pid, number)
    doit.communicate(timeout=60)
    forked.wait_for(lambda: not children(dask), 60)
    assert dask.workers[0].poll() is None


def children(dask: Dask) -> list[str]:
    """The steps that run on workers."""
    lines = [Path(f"/proc/{process}/cmdline") for process in forked.children_of(dask.folder)]
    return [line.read_text() for line in lines if line.exists() and "tests.engine.stages" in line.read_text()]


def test_a_step_that_needs_what_only_this_machine_has_stays_here_and_goes_to_the_store(
    dask: Dask, tmp_path: Path
) -> None:
    dask.work()
    tied = {"name": "tied", "verb": "join", "inputs": ["copy"], "tied": True}
    project = shared(tmp_path, dask, (GRAPH[0], tied))
    said = project.doit()
    assert not built_on(said), said
    clone = Project(tmp_path / "clone", (GRAPH[0], tied))
    clone.share((tmp_path / "mnt").as_uri(), write=False, cluster=dask.address)
    assert "2 fetched" in clone.doit()


def test_a_measurement_goes_to_a_worker_that_is_labelled_for_it_alone(dask: Dask, tmp_path: Path) -> None:
    dask.work()
    project = shared(tmp_path, dask, MEASURED)
    said = project.doit()
    assert "no worker has --resources" in said and "measure=1" in said and not built_on(said)
    dask.work(f"{PLENTY},measure=1")
    project.doit("forget", "clock")
    assert built_on(project.doit()).keys() == {"clock"}


def test_what_runs_on_a_gpu_goes_to_a_worker_that_has_one_alone(dask: Dask, tmp_path: Path) -> None:
    dask.work()
    project = shared(tmp_path, dask, (GRAPH[0], {**GRAPH[2], "resources": {"gpu": 1}}))
    said = project.doit()
    assert "no worker has --resources" in said and "gpu=1" in said and not built_on(said), said
    dask.work(f"{PLENTY},gpu=1")  # a claim: Dask places by that alone
    project.set("slow", parameters={"suffix": "?"})
    assert built_on(project.doit()).keys() == {"slow"}
    used = {place.relative_to(dask.folder).parts[0] for place in dask.folder.glob("worker-*/*/*/ingot")}
    assert used == {"worker-1"}


def test_a_worker_with_another_version_of_a_tool_has_what_that_does_not_act_in(dask: Dask, tmp_path: Path) -> None:
    needy = {"name": "needy", "verb": "copy", "inputs": ["copy"], "tools": ["a-tool"]}
    free = {"name": "free", "verb": "join", "inputs": ["needy"]}
    older, newer = install(tmp_path / "tools", "1.0"), install(tmp_path / "tools", "1.1")
    dask.work(path=newer)
    project = shared(tmp_path, dask, (GRAPH[0], needy, free))
    said = project.doit(PYTHONPATH=older)
    assert "is not used for text copy: it has a-tool 1.1, not 1.0" in " ".join(said.split()), said
    assert "no worker of this version" in said and built_on(said).keys() == {"free"}, said
    dask.work(path=older)
    project.set("needy", parameters={"suffix": "!"})
    said = project.doit(PYTHONPATH=older)
    assert built_on(said).keys() == {"needy", "free"}, said


def test_a_worker_of_other_code_is_refused_by_name(dask: Dask, right: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "scripts", other / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "tests").mkdir()
    for name in ("tests/__init__.py", "pyproject.toml"):
        shutil.copyfile(ROOT / name, other / name) if (ROOT / name).exists() else None
    shutil.copytree(ROOT / "tests/engine", other / "tests/engine", ignore=shutil.ignore_patterns("__pycache__"))
    stage = other / "tests/engine/stages/text/__main__.py"
    stage.write_text(stage.read_text().replace("file.read_text() + suffix", "suffix + file.read_text()"))
    dask.work(project=other)
    project = shared(tmp_path, dask)
    said = project.doit()
    assert "is not used for text copy: it has tests.engine.stages.text" in said and not built_on(said).keys() - {
        "split"
    }, said
    whole(project, right)


def test_what_a_worker_was_brought_is_removed_beyond_a_limit(
    dask: Dask, right: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGOT_WORKER_CACHE", "1")
    dask.work()
    project = shared(tmp_path, dask)
    assert built_on(project.doit("-n", "2")).keys() >= {"slow", "count", "join"}
    whole(project, right)
    for part in ("inputs", "own"):
        assert not [*dask.folder.glob(f"worker-0/dask-scratch-space/*/ingot/{part}/*")]


def test_a_step_that_fails_there_fails_here_with_its_reason_and_log(dask: Dask, tmp_path: Path) -> None:
    dask.work()
    broken = {"name": "broken", "verb": "fail", "inputs": ["copy"]}
    project = shared(tmp_path, dask, (GRAPH[0], broken))
    said = project.doit(code=1)
    assert f"{project.build}/copy: is not to this verb's taste" in " ".join(said.split()), said
    assert (project.build / "logs/broken.log").is_file()


@pytest.mark.needs("namespaces")
def test_a_network_that_is_cut_for_a_while_does_no_harm(right: dict[str, str], tmp_path: Path) -> None:
    """All of it in a network of its own, whose loopback goes down while the slow step is under way."""
    script = 'ip link set lo up && exec "$1" -m tests.engine.cut "$2"'
    words = ["unshare", "--user", "--map-root-user", "--net", "sh", "-euc", script, "sh", sys.executable, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    project = Project.__new__(Project)
    project.folder, project.build = tmp_path / "project", tmp_path / "project/build"
    assert "cut" in done.stdout
    whole(project, right)


def cut(folder: Path, seconds: float) -> None:
    """What that test runs in the namespace."""
    (folder / "dask").mkdir()
    dask = Dask(folder / "dask")
    try:
        dask.work()
        dask.work()
        project = shared(folder, dask)

        def down(_: int) -> None:
            subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
            time.sleep(seconds)
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            print("cut")

        print(during(project, dask, down))
    finally:
        dask.stop()

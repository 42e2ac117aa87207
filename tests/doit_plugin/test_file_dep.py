"""The files of a step, as doit itself knows them: every reader of `file_dep` is right without Ingot's help."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.engine import projects
from tests.system.project import Project

#: What trainers leave beside a model: transformers' Trainer, accelerate, DeepSpeed, TensorBoard.
LEFT = ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin", "trainer_state.json", "train.log",
        "checkpoint-500/model.safetensors", "global_step500/mp_rank_00_model_states.pt", "runs/events.1")  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path, tiny_llama: Path) -> Path:
    """A checkpoint in the folder that its trainer worked in."""
    folder = shutil.copytree(tiny_llama, tmp_path / "trained")
    leave(folder, "first")
    (folder / "latest").symlink_to(folder / "checkpoint-250")  # which the trainer has removed
    return folder


@pytest.fixture
def project(tmp_path: Path, weights: Path, tiny_adapter: Path) -> Project:
    made = Project(tmp_path)
    adapter = shutil.copytree(tiny_adapter, tmp_path / "adapter")
    leave(adapter, "first")
    made.models(
        {"name": "tiny", "source": {"path": weights}, "precisions": ["int4"], "evaluation": made.facts()},
        {"name": "tuned", "source": {"path": weights}, "adapters": [{"path": adapter}], "precisions": ["int4"]},
    )
    return made


def leave(folder: Path, text: str) -> None:
    for name in LEFT:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def listed(project: Project) -> dict[str, set[str]]:
    """Task → its files, by `doit list --deps`, relative to the test's folder."""
    ran = project.doit("list", "--all", "--deps", "--quiet")
    assert ran.code == 0, ran.out
    found: dict[str, set[str]] = {}
    task = ""
    for line in ran.out.splitlines():
        if line.startswith(" -  "):
            found[task].add(Path(line.removeprefix(" -  ")).relative_to(project.build.parent).as_posix())
        elif line.strip():
            task = line.strip()
            found[task] = set()
    return found


def test_list_shows_the_users_files_that_count_and_the_results_of_the_steps_before(
    project: Project, tiny_llama: Path
) -> None:
    files = listed(project)
    assert files["checkpoint:tiny"] == {f"trained/{name}" for name in names(tiny_llama)}
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert files["checkpoint:tuned"] == files["checkpoint:tiny"] | adapter
    assert files["export:tiny"] == {"my build/tiny/checkpoint/manifest.json"}
    assert files["domain:tiny-int4"] == {
        "my build/tiny/int4/package/manifest.json",
        "my build/tiny/domain.json",
        "my config/eval/cases.jsonl",
    }
    assert files["deploy:tiny-int4"] == {"my build/tiny/int4/attested/manifest.json", "my build/tiny/recommend.json"}
    steps = {task for task in files if ":" in task and not task.startswith("model:")} | {"reconcile", "report"}
    assert not {task for task in steps if not files[task]}


def test_info_shows_the_files_of_a_step(project: Project, weights: Path, tiny_llama: Path) -> None:
    said = project.doit("info", "checkpoint:tiny").out
    assert "file_dep" in said
    shown = {Path(line.removeprefix(" - ")).name for line in said.splitlines() if str(weights) in line}
    assert shown == names(tiny_llama)


def test_what_a_trainer_leaves_beside_a_model_or_an_adapter_rebuilds_nothing(project: Project, weights: Path) -> None:
    assert project.doit("checkpoint").code == 0
    leave(weights, "trained on")
    leave(weights.parent / "adapter", "trained on")
    ran = project.doit("checkpoint")
    assert (ran.code, ran.steps) == (0, frozenset()), ran.out
    (weights / "config.json").write_text((weights / "config.json").read_text() + "\n")
    assert "input changed: source/config.json" in project.doit("why", "checkpoint:tiny").out


def test_a_plain_task_is_told_by_doit_that_a_file_is_missing_also_where_a_step_reads_it(tmp_path: Path) -> None:
    project = projects.Project(tmp_path / "project")
    project.write("dodo.py", (project.folder / "dodo.py").read_text() + '''
def task_extra():
    """A task in doit's own way"""
    return {"actions": ["echo"], "file_dep": [str(HERE / "src/a/x.txt")]}
''')  # fmt: skip
    (project.folder / "src/a/x.txt").unlink()
    assert "x.txt' does not exist" in project.doit("extra", code=2)

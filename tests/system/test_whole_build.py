"""`doit`, from weights to a model that answers in the real Foundry runtime, and what a second run does."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import jsonschema
import pytest

from tests.system.conftest import settings
from tests.system.project import ROOT, Project, Ran

STAGES = {"quantize", "quality", "package", "domain", "bench", "attest", "deploy", "verify"}
MODEL = {
    f"{stage}:facts" for stage in ("checkpoint", "reference", "export", "quality", "package", "domain", "recommend")
}


def test_a_fresh_build_deploys_and_verifies_every_precision(first: tuple[Project, Ran]) -> None:
    project, ran = first
    assert ran.code == 0, ran.out
    assert ran.steps == MODEL | {f"{s}:facts-{p}" for s in STAGES for p in ("int4", "int8")} | {"reconcile", "report"}
    [model] = project.json("report/report.json")["models"]
    assert model["recommended"] == "int4"
    assert [row["precision"] for row in model["precisions"]] == ["int4", "int8"]
    for row in model["precisions"]:
        assert row["deployed"]["verified"], row
        assert row["verdict"] in ("passed", "warned")
        assert row["domain"]["score"] == 100
        assert row["performance"]["time_to_first_token_ms"]["p50"] > 0


def test_the_report_keeps_to_its_published_schema(first: tuple[Project, Ran]) -> None:
    schema = json.loads((ROOT / "scripts/report/report.schema.json").read_text("utf-8"))
    jsonschema.validate(first[0].json("report/report.json"), schema)


def test_the_table_ends_the_run(first: tuple[Project, Ran]) -> None:
    project, ran = first
    table = (project.build / "report" / "table.txt").read_text("utf-8").strip()
    assert table in ran.out


def test_the_deployed_model_is_what_the_index_of_the_cache_lists(first: tuple[Project, Ran]) -> None:
    project = first[0]
    index = project.json("foundry/cache/models/foundry.local.modelinfo.json")
    listed = {model["model_info"]["id"]: Path(model["model_path"]) for model in index["models"]}
    assert set(listed) == {"facts-int4-generic-cpu:1", "facts-int8-generic-cpu:1"}
    assert all((path / "inference_model.json").is_file() for path in listed.values())


def test_nothing_is_left_in_the_home_folder(first: tuple[Project, Ran]) -> None:
    assert [path for path in first[0].home.rglob("*") if path.is_file()] == []


def test_the_users_weights_are_linked_not_copied_nor_touched(first: tuple[Project, Ran], weights: Path) -> None:
    ours = first[0].build / "facts" / "checkpoint" / "model.safetensors"
    assert ours.is_symlink()
    assert ours.resolve() == (weights / "model.safetensors").resolve()
    assert (weights / "model.safetensors").stat().st_nlink == 1


def test_a_second_run_runs_nothing(built: Project) -> None:
    ran = built.doit()
    assert (ran.code, ran.steps) == (0, frozenset())
    assert built.doit("gate").code == 0
    assert built.doit("check", "--deep").code == 0


def test_touching_a_weight_runs_nothing(built: Project, weights: Path) -> None:
    os.utime(weights / "model.safetensors")
    assert built.doit().steps == frozenset()


def test_a_file_that_is_not_a_part_of_the_model_runs_nothing(built: Project, weights: Path) -> None:
    notes = weights / "training notes.txt"
    notes.write_text("loss looked fine", encoding="utf-8")
    try:
        ran = built.doit()
    finally:
        notes.unlink()
    assert ran.steps == frozenset()


def test_a_changed_temperature_rebuilds_no_onnx_and_repeats_no_kl(built: Project, weights: Path) -> None:
    settings(built, weights, sampling={"temperature": 0.3})
    ran = built.doit("package", "quality")
    assert ran.code == 0, ran.out
    assert {step.split(":")[0] for step in ran.steps} == {"package"}
    config = built.json("facts/int4/package/genai_config.json")
    assert config["search"]["temperature"] == 0.3


def test_a_changed_description_and_licence_measure_and_judge_nothing_again(built: Project, weights: Path) -> None:
    licence = weights / "LICENSE"
    text = licence.read_text(encoding="utf-8")
    licence.write_text(f"{text}\nMore terms.", encoding="utf-8")
    settings(built, weights, description="Knows the colours of eight things.", version="2", license="apache-2.0")
    try:
        ran = built.doit()
    finally:
        licence.write_text(text, encoding="utf-8")
    assert ran.code == 0, ran.out
    ran_again = {step.split(":")[0] for step in ran.steps}
    assert ran_again == {"checkpoint", "package", "attest", "deploy", "reconcile", "verify", "report"}


def test_an_edited_chat_template_exports_and_quantises_nothing_again(built: Project, weights: Path) -> None:
    template = weights / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    template.write_text(f"{{# a comment #}}{text}", encoding="utf-8")
    try:
        ran = built.doit("package", "quality")
    finally:
        template.write_text(text, encoding="utf-8")
    assert ran.code == 0, ran.out
    assert {step.split(":")[0] for step in ran.steps} == {"checkpoint", "package"}


def test_a_changed_recipe_leaves_the_other_precision_alone(built: Project) -> None:
    recipes = built.config / "recipes.toml"
    recipes.write_text('[int4]\npasses = [{ type = "WeightOnlyQuantization", bits = 4, block_size = 64 }]\n', "utf-8")
    try:
        ran = built.doit("package")
    finally:
        recipes.unlink()
    assert ran.code == 0, ran.out
    assert ran.steps == {"quantize:facts-int4", "package:facts-int4"}


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("qwen2", "int4-best"),
        pytest.param("phi3", "int8", marks=pytest.mark.long),
        pytest.param("gemma", "fp16", marks=pytest.mark.long),
    ],
)
def test_one_task_builds_what_it_needs_and_no_more(
    project: Project, request: pytest.FixtureRequest, family: str, precision: str
) -> None:
    """On every family, without cases: `verify` then compares with onnxruntime-genai's own greedy text."""
    weights = request.getfixturevalue(f"tiny_{family}")
    project.model(name="m", source={"path": weights}, precisions=[precision, "int4-small"])
    ran = project.doit(f"quantize:m-{precision}")
    assert ran.code == 0, ran.out
    assert ran.steps == {"checkpoint:m", "export:m", f"quantize:m-{precision}"}
    ran = project.doit(f"verify:m-{precision}")
    assert ran.code == 0, ran.out
    assert project.json(f"m/{precision}/verify.json")["verdict"] == "passed"


def test_a_precision_below_its_gate_is_refused_and_the_build_goes_on(built: Project, weights: Path) -> None:
    settings(built, weights, gates={"int4": {"kl": 1e-9}})
    ran = built.doit("deploy", "verify", "report")
    assert ran.code == 0, ran.out
    rows = {row["precision"]: row for row in built.json("report/report.json")["models"][0]["precisions"]}
    assert rows["int4"]["verdict"] == "refused"
    assert "1e-09" in " ".join(rows["int4"]["reasons"])
    assert rows["int4"]["deployed"] is None
    assert rows["int8"]["deployed"]["verified"]
    assert built.json("report/report.json")["models"][0]["recommended"] == "int8"
    assert built.doit("deploy", "verify", "report").steps == frozenset()
    gate = built.doit("gate")
    assert gate.code == 1
    assert "deploy:facts-int4: refused" in gate.out


def test_a_deployed_model_that_somebody_deleted_comes_back(built: Project) -> None:
    [deployed] = [Path(built.json("facts/int8/deploy.json")["path"])]
    (deployed / "model.onnx").unlink()
    ran = built.doit("verify:facts-int8")
    assert ran.code == 0, ran.out
    assert "deploy:facts-int8" in ran.steps
    assert (deployed / "model.onnx").is_file()


def test_parallel_steps_give_the_same_bytes_in_another_folder(
    built: Project, project: Project, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And at another time, in another time zone, from a repository that has another commit checked out."""
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "another"]):
        subprocess.run([*git, *words], check=True)
    for name, value in {"GIT_DIR": f"{tmp_path}/.git", "TZ": "Asia/Tokyo", "LC_ALL": "C", "USER": "else"}.items():
        monkeypatch.setenv(name, value)
    settings(project, weights)
    ran = project.doit("-n", "2", "attest", "package")
    assert ran.code == 0, ran.out
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    told = [str(project.build), str(tmp_path), time.strftime("%Y-%m-%d"), commit[:7]]
    for name in ("facts/int4/package", "facts/int4/attested", "facts/int8/attested", "facts/package"):
        assert project.json(f"{name}/manifest.json") == built.json(f"{name}/manifest.json")
        for file in (project.build / name).iterdir():
            if file.name != "provenance.json":
                found = file.read_bytes()
                assert found == (built.build / name / file.name).read_bytes()
                assert not [text for text in told if text.encode() in found], file


def test_clean_removes_what_was_built_and_nothing_else(project: Project, tiny_llama: Path) -> None:
    cache = project.home / "the user's cache"
    foreign = cache / "somebody" / "model" / "genai_config.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("{}", encoding="utf-8")
    project.models(
        {"name": "m", "source": {"path": tiny_llama}, "precisions": ["fp16"], "gates": {"fp16": {"kl": 5.0}}},
        extra=f"[foundry]\ncache = {json.dumps(str(cache))}\n",
    )
    assert project.doit("deploy").code == 0
    mine = project.build / "my own notes.txt"
    mine.write_text("keep", encoding="utf-8")
    deployed = Path(project.json("m/fp16/deploy.json")["path"])
    assert project.doit("clean").code == 0
    assert [path for path in project.build.rglob("*") if path.is_file() and not path.name.startswith("state.db")] == [
        mine
    ]
    assert foreign.is_file()
    assert (deployed / "model.onnx").is_file(), "a user's cache is never cleaned"

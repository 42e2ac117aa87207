"""`doit init` on what people have: the file that it writes passes the doctor, and what it could not know is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli

from scripts.doctor.diagnosis import diagnose
from tests import tiny
from tests.checkpoint.test_fetched import make_gguf

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789" * 4
CASE = '{"id": "a", "prompt": "b", "expect": {"schema": true}}\n'


def init(*words: object, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"HF_HUB_CACHE": str(home)} if home else {})}
    return subprocess.run(
        [sys.executable, "-m", "doit", "init", *map(str, words)], cwd=ROOT, env=environment, capture_output=True,
        encoding="utf-8", check=False,
    )  # fmt: skip


def written(folder: Path, *words: object, home: Path | None = None) -> tuple[dict[str, Any], str]:
    """The one model of the file that `doit init FOLDER` writes there, and what it said; the doctor finds it sound."""
    ran = init(folder, *words, home=home)
    assert ran.returncode == 0, ran.stderr
    config = folder if folder.is_dir() else folder.parent
    config = next((Path(str(word).partition("=")[2]) for word in words if str(word).startswith("config=")), config)
    judged = [line for line in diagnose(config=config, build=config / "build") if line.what.startswith("model ")]
    assert [line.status for line in judged] == ["ok"], judged
    [model] = tomli.loads((config / "models.toml").read_text(encoding="utf-8"))["model"]
    return model, ran.stdout


@pytest.fixture
def base(tmp_path: Path, tiny_llama: Path) -> Path:
    """A folder with spaces and more in its name, and a model in it."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "héllo wörld'\" 你好" / "the base"))


@pytest.fixture
def adapter(base: Path, tiny_adapter: Path) -> Path:
    """An adapter beside its base, which its config does not know."""
    found = Path(shutil.copytree(tiny_adapter, base.parent / "desk adapter"))
    named(found, None)
    return found


def named(adapter: Path, base: str | None) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}), encoding="utf-8")


def test_a_model_alone_is_named_by_its_folder_and_its_licence_by_its_card(base: Path) -> None:
    (base / "README.md").write_text("---\ntags: [x]\nlicense: apache-2.0\n---\n# It\n", encoding="utf-8")
    model, said = written(base)
    assert model == {"name": "the-base", "source": {"path": "."}, "precisions": ["int4", "int8", "fp16"],
                     "license": "apache-2.0"}  # fmt: skip
    assert "unknown  cases: without them nothing judges the model's own job" in said
    assert "next     doit config=" in said


def test_all_licences_of_a_card_count_and_without_a_card_the_licence_s_text(base: Path) -> None:
    (base / "LICENSE").write_text("MIT License\n", encoding="utf-8")
    assert written(base)[0]["license"] == "mit"
    (base / "models.toml").unlink()
    (base / "README.md").write_text("---\nlicense:\n- mit\n- gemma\n---\n# It\n", encoding="utf-8")
    assert written(base)[0]["license"] == "mit, gemma"


def test_a_base_its_adapter_and_what_it_is_judged_by_are_found_in_one_folder(base: Path, adapter: Path) -> None:
    project = adapter.parent
    assert base.parent == project
    (project / "eval").mkdir()
    for name, text in (("cases.jsonl", CASE), ("answer.schema.json", "{}"), ("text.txt", "Some text")):
        (project / "eval" / name).write_text(text, encoding="utf-8")
    (project / "train.jsonl").write_text('{"messages": [{"role": "user", "content": "x"}]}\n', encoding="utf-8")
    model, said = written(project, "--name", "desk")
    assert (model["name"], model["source"]) == ("desk", {"path": "the base"})
    assert model["adapters"] == [{"path": "desk adapter"}]
    assert model["evaluation"] == {
        "text": "eval/text.txt", "cases": "eval/cases.jsonl", "schema": "eval/answer.schema.json",
    }  # fmt: skip
    assert model["calibration"] == "train.jsonl"
    assert "found    adapter: desk adapter, rank " in said
    assert "found    cases: eval/cases.jsonl (1)" in said


@pytest.mark.parametrize("name", [None, "the base", "../the base", "somebody/the base", "somebody/other"])
def test_an_adapters_base_is_where_its_config_says_or_beside_it(adapter: Path, name: str | None) -> None:
    named(adapter, name)
    model, said = written(adapter)
    assert (model["source"], model["adapters"]) == ({"path": "../the base"}, [{"path": "."}])
    assert model["name"] == "desk-adapter"
    if name in (None, "somebody/other"):
        assert "taken is the base, the only model beside it" in said


def test_a_base_that_is_not_here_is_asked_for(tiny_adapter: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(tiny_adapter, tmp_path / "alone" / "deep" / "adapter")
    named(alone, "somebody/none")
    ran = init(alone)
    assert ran.returncode == 1
    assert 'names "somebody/none" as its base, which is not on this machine' in ran.stderr
    assert "doit init BASE --adapter ADAPTER" in ran.stderr
    assert not (alone / "models.toml").exists()


def test_a_snapshot_of_the_hub_is_named_by_its_commit(tiny_llama: Path, adapter: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    repository = cache / "models--somebody--small"
    shutil.copytree(tiny_llama, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for folder in (repository, repository / "snapshots" / COMMIT):
        ran = init(folder, home=cache)
        assert ran.returncode == 1
        assert "is in a cache of the hub, where no other file belongs" in ran.stderr
    target = tmp_path / "mine"
    model, _ = written(repository, f"config={target}", home=cache)
    assert (model["name"], model["source"]) == ("small", {"hub": "somebody/small", "revision": COMMIT})
    named(adapter, "somebody/small")
    model, _ = written(adapter, home=cache)
    assert model["source"] == {"hub": "somebody/small", "revision": COMMIT}
    # A cache that the build would not look into is a folder like any other.
    model, _ = written(repository, f"config={tmp_path / 'other'}", home=tmp_path)
    assert model["source"] == {"path": f"../cache/models--somebody--small/snapshots/{COMMIT}"}


def test_a_gguf_is_taken_and_one_of_something_else_is_not(tiny_llama: Path, tmp_path: Path) -> None:
    file = make_gguf(tmp_path / "desk-q8.gguf", tiny_llama)
    (tmp_path / "mmproj-desk.gguf").write_bytes(b"GGUF")
    (tmp_path / "lora.gguf").write_bytes(b"GGUF")
    model, said = written(tmp_path)
    assert (model["name"], model["source"]) == ("desk-q8", {"gguf": "desk-q8.gguf"})
    assert "lora.gguf is left out: an adapter as GGUF is not read" in said
    (tmp_path / "models.toml").unlink()
    assert written(file)[0]["source"] == {"gguf": "desk-q8.gguf"}


def _trainer(base: Path, folder: Path) -> None:
    for number in (500, 1000, 90):
        shutil.copytree(base, folder / f"checkpoint-{number}")
    (folder / "runs").mkdir()


def _trainers_adapter(base: Path, folder: Path) -> None:
    shutil.copytree(base, folder / "base")
    for number in (50, 100):
        tiny.make_adapter(folder / "run" / f"checkpoint-{number}", base)
        named(folder / "run" / f"checkpoint-{number}", None)


def _job(base: Path, folder: Path) -> None:
    shutil.copytree(base, folder / "named_outputs" / "model" / "data" / "model")
    (folder / "named_outputs" / "model" / "MLmodel").write_text("flavors: {}")


def _olive(base: Path, folder: Path) -> None:
    shutil.copytree(base, folder / "model")
    tiny.make_adapter(folder / "adapter", base)
    named(folder / "adapter", "somebody/none")


@pytest.mark.parametrize(
    ("make", "source", "adapters"),
    [
        (_trainer, "checkpoint-1000", None),
        (_trainers_adapter, "base", [{"path": "run/checkpoint-100"}]),
        (_job, "named_outputs/model", None),
        (_olive, ".", [{"path": "adapter"}]),
    ],
)
def test_outputs_of_trainers_and_jobs_are_read_as_they_stand(
    tiny_llama: Path, tmp_path: Path, make: Callable[[Path, Path], None], source: str, adapters: Any
) -> None:
    folder = tmp_path / "desk"
    folder.mkdir()
    make(tiny_llama, folder)
    model, _ = written(folder)
    assert (model["source"]["path"], model.get("adapters")) == (source, adapters)


def test_a_template_is_taken_from_beside_a_model_that_has_none_and_else_asked_for(base: Path) -> None:
    (base / "chat_template.jinja").unlink()
    ran = init(base)
    assert ran.returncode == 0
    assert "unknown  chat template: has no chat template" in ran.stdout
    assert "# template = " in (base / "models.toml").read_text(encoding="utf-8")
    (base.parent / "chatml.jinja").write_text(tiny.CHAT_TEMPLATE, encoding="utf-8")
    assert written(base.parent)[0]["template"] == "chatml.jinja"


def test_of_named_templates_one_is_chosen_and_the_others_are_told(base: Path) -> None:
    (base / "chat_template.jinja").unlink()
    file = base / "tokenizer_config.json"
    named = [{"name": name, "template": tiny.CHAT_TEMPLATE} for name in ("rag", "chat")]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": named}), encoding="utf-8")
    model, said = written(base)
    assert model["template"] == "chat"
    assert "there are also rag: choose by `template`" in said


def test_cases_with_a_mistake_are_left_out_and_the_mistake_is_told(base: Path) -> None:
    (base.parent / "cases.jsonl").write_text('{"id": "a", "prompt": "b", "expect": {"exakt": "c"}}\n', "utf-8")
    model, said = written(base.parent)
    assert "evaluation" not in model
    assert "unknown  cases: " in said
    assert "cases.jsonl:1: expect.exakt: unknown key" in said


def test_no_file_is_written_over_and_a_dry_run_writes_none(base: Path) -> None:
    ran = init(base, "--dry-run")
    assert ran.returncode == 0
    assert '[[model]]\nname = "the-base"' in ran.stdout
    assert not (base / "models.toml").exists()
    assert init(base).returncode == 0
    before = (base / "models.toml").read_bytes()
    ran = init(base)
    assert ran.returncode == 1
    assert "is there already, and is not written over" in ran.stderr
    assert (base / "models.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.exists(), "holds no model"),
        (lambda folder: shutil.rmtree(folder), "there is no such folder"),
        (lambda folder: (folder / "model.bin").write_bytes(b"x"), "holds no model"),
    ],
)
def test_what_holds_no_model_is_refused_in_one_line(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    make(folder)
    ran = init(folder)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_several_models_or_adapters_are_named(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(tiny_llama, tmp_path / "models" / name)
        shutil.copytree(tiny_adapter, tmp_path / "adapters" / name)
    assert "holds several models: a, b. Name the folder of one of them" in init(tmp_path / "models").stderr
    assert "holds several adapters: a, b. Choose: --adapter FOLDER" in init(tmp_path / "adapters").stderr


def test_weights_that_a_build_refuses_are_refused_here(base: Path) -> None:
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    ran = init(base)
    assert ran.returncode == 1
    assert "model.safetensors: truncated" in ran.stderr


def test_a_command_line_that_is_wrong_is_told(tmp_path: Path) -> None:
    assert "name one folder" in init().stderr
    ran = init(tmp_path, "conifg=x")
    assert ran.returncode == 3
    assert "there is no such variable. Did you mean config?" in ran.stderr
    assert init("--help").stdout.startswith("doit init [OPTIONS] FOLDER")

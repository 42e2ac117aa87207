"""Bad input: one line that names the file and what to do, exit code ≠ 0, no traceback, and nothing built is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import needs, tiny
from tests.system.project import ROOT, Project


def refused(project: Project, *said: str, task: str = "checkpoint") -> None:
    """`doit` fails, fast, with a line that says all of this."""
    ran = project.doit(task)
    assert ran.code != 0, ran.out
    assert "Traceback" not in ran.out
    lines = [line for line in ran.out.splitlines() if all(part in line for part in said)]
    assert lines, f"no line says {said}:\n{ran.out}"


@pytest.fixture
def weights(tmp_path: Path, tiny_llama: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(tiny_llama, tmp_path / "my weights")


def no_folder(weights: Path) -> str:
    shutil.rmtree(weights)
    return "my weights"


def no_config(weights: Path) -> str:
    (weights / "config.json").unlink()
    return "config.json"


def no_tokenizer(weights: Path) -> str:
    for file in weights.glob("tokenizer*"):
        file.unlink()
    return "tokenizer"


def truncated(weights: Path) -> str:
    file = weights / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return "model.safetensors"


def empty(weights: Path) -> str:
    (weights / "model.safetensors").write_bytes(b"")
    return "model.safetensors"


def missing_shard(weights: Path) -> str:
    sharded = tiny.make_sharded(weights.parent / "shards", weights)
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    shutil.rmtree(weights)
    shutil.copytree(sharded, weights)
    return shard.name


def unsupported(weights: Path) -> str:
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**config, "architectures": ["GPTNeoXForCausalLM"]}))
    return "GPTNeoXForCausalLM"


def pickled(weights: Path) -> str:
    (weights / "model.safetensors").rename(weights / "pytorch_model.bin")
    return "pytorch_model.bin"


def remote_code(weights: Path) -> str:
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    return "auto_map"


@pytest.mark.parametrize(
    "spoil",
    [no_folder, no_config, no_tokenizer, truncated, empty, missing_shard, unsupported, pickled, remote_code],
    ids=lambda spoil: spoil.__name__,
)
def test_spoilt_weights(project: Project, weights: Path, spoil: Any) -> None:
    project.model(name="m", source={"path": weights})
    refused(project, "checkpoint:m", spoil(weights))


def test_an_adapter_for_another_base(project: Project, weights: Path, tmp_path: Path) -> None:
    other = tiny.make_checkpoint(tmp_path / "wider", "llama", hidden=512)
    adapter = tiny.make_adapter(tmp_path / "adapter", other)
    project.model(name="m", source={"path": weights}, adapters=[{"path": adapter}])
    refused(project, "checkpoint:m", "adapter")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"precision": ["int4"]}, ["precision", "Did you mean 'precisions'?"]),
        ({"precisions": ["int44"]}, ["int44", "Did you mean 'int4'?"]),
        ({"precisions": "int4"}, ["precisions", "expected a list"]),
        ({"sampling": {"temprature": 1}}, ["temprature", "Did you mean 'temperature'?"]),
        ({"sampling": {"temperature": "hot"}}, ["temperature", "expected a number", "hot"]),
        ({"context_length": 10**12}, ["context_length", "out of range"]),
        ({"deploy": "al"}, ["deploy", "Did you mean 'all'?"]),
        ({"evaluation": {"cases": "eval/none.jsonl"}}, ["cases", "none.jsonl"]),
        ({"evaluation": {"cases": "eval/empty.jsonl"}}, ["cases", "empty.jsonl", "empty"]),
        ({"name": "con"}, ["con", "reserved"]),
        ({"name": "report"}, ["report", "reserved"]),
        ({"name": "my model"}, ["my model"]),
        ({"name": "x-cuda-gpu"}, ["cuda-gpu"]),
        ({"source": {"path": "a", "gguf": "b"}}, ["source", "exactly one"]),
    ],
)
def test_a_mistake_in_models_toml(project: Project, values: dict[str, Any], said: list[str]) -> None:
    (project.config / "eval" / "empty.jsonl").touch()
    project.model(**{"name": "m", "source": {"path": "weights"}, **values})
    refused(project, "models.toml", *said)


def test_not_toml_at_all(project: Project) -> None:
    (project.config / "models.toml").write_text("[[model]\n", encoding="utf-8")
    refused(project, "models.toml", "line 1")


def test_two_models_whose_joined_names_collide(project: Project) -> None:
    source = {"path": "weights"}
    project.models({"name": "a", "source": source}, {"name": "A-int4", "source": source})
    refused(project, "models.toml", "A-int4", "Rename")


def test_two_models_of_one_name(project: Project) -> None:
    project.models(*[{"name": "twin", "source": {"path": "weights"}}] * 2)
    refused(project, "models.toml", "twin", "Rename")


def test_one_bad_model_does_not_stop_a_good_one_nor_the_report(project: Project, tiny_llama: Path) -> None:
    project.models(
        {"name": "bad", "source": {"path": project.home / "nowhere"}, "precisions": ["fp16"]},
        {"name": "good", "source": {"path": tiny_llama}, "precisions": ["fp16"]},
    )
    ran = project.doit()
    assert ran.code == 1, ran.out
    bad, good = project.json("report/report.json")["models"]
    assert bad["precisions"][0]["verdict"] in ("failed", "skipped")
    assert any("nowhere" in reason for reason in bad["export"]["reasons"]) or "nowhere" in json.dumps(bad)
    assert good["precisions"][0]["verdict"] in ("passed", "warned", "refused")


def test_a_mistake_in_one_models_settings_stops_this_model_alone(project: Project, tiny_llama: Path) -> None:
    project.models(
        {"name": "bad", "source": {"path": tiny_llama}, "precison": ["fp16"]},
        {"name": "worse", "source": {"pth": tiny_llama}, "precisions": ["fp17"]},
        {"name": "good", "source": {"path": tiny_llama}},
    )
    ran = project.doit("checkpoint")
    assert (ran.code, ran.steps) == (1, frozenset({"checkpoint:good"})), ran.out
    assert "Did you mean 'precisions'?" in ran.out
    assert "needs exactly one of path, gguf, wheel, hub; found pth" in ran.out
    assert "There is 1 more: doit doctor" in ran.out


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("eval/cases.jsonl", '{"id": "a", "prompt": "b"}', "cases.jsonl:1: expect"),
        ("eval/cases.jsonl", "{", "cases.jsonl:1: "),
        ("eval/schema.json", '{"type": 7}', "schema.json: is not a JSON schema"),
    ],
)
def test_a_mistake_in_the_cases_is_told_before_anything_is_built(
    project: Project, tiny_llama: Path, file: str, text: str, said: str
) -> None:
    case = '{"id": "a", "prompt": "b", "expect": {"exact": "c"}}'
    for name, sound in (("eval/cases.jsonl", case), ("eval/schema.json", "{}")):
        (project.config / name).write_text(sound, encoding="utf-8")
    (project.config / file).write_text(text, encoding="utf-8")
    evaluation = {"cases": "eval/cases.jsonl", "schema": "eval/schema.json"}
    project.model(name="m", source={"path": tiny_llama}, evaluation=evaluation)
    ran = project.doit("checkpoint", "export")
    assert (ran.code, ran.steps) == (1, frozenset()), ran.out
    assert said in ran.out
    (project.config / file).write_text(case if "cases" in file else "{}", encoding="utf-8")
    assert project.doit("checkpoint").steps == {"checkpoint:m"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_configuration_that_never_ends_is_refused(project: Project) -> None:
    os.mkfifo(project.config / "models.toml")
    refused(project, "models.toml", "is not a regular file")


def test_doit_started_elsewhere_names_the_command_that_works(project: Project) -> None:
    project.model(name="m", source={"path": "weights"})
    done = subprocess.run(
        [sys.executable, "-m", "doit", "-f", str(ROOT / "dodo.py"), "config=.", "build=../my build"],
        cwd=project.config, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    [said] = [line for line in done.stderr.splitlines() if line]
    assert said.endswith(f"Type: cd {ROOT} && doit 'build={project.build}' 'config={project.config}'")
    assert "Traceback" not in said


def test_what_was_built_stays_when_the_weights_break(project: Project, weights: Path) -> None:
    project.model(name="m", source={"path": weights}, precisions=["fp16"])
    assert project.doit("package:m-fp16").code == 0
    package = project.build / "m" / "fp16" / "package"
    before = {path.name: path.stat().st_ino for path in package.iterdir()}
    (weights / "config.json").write_text("{", encoding="utf-8")
    refused(project, "checkpoint:m", "config.json", task="package:m-fp16")
    assert {path.name: path.stat().st_ino for path in package.iterdir()} == before


def test_weights_too_large_for_this_machine(project: Project, weights: Path) -> None:
    """A sparse file with a sound header stands for weights that would not fit into this machine's memory."""
    file = weights / "model.safetensors"
    length = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + length])
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    columns = psutil.virtual_memory().total // 11 // 1024  # twelve bytes a number of the largest tensor
    header["huge.weight"] = {"dtype": "F16", "shape": [1024, columns], "data_offsets": [end, end + 2048 * columns]}
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + end + 2048 * columns)
    project.model(name="m", source={"path": weights})
    refused(project, "checkpoint:m", "free", "needed")


@pytest.mark.needs("namespaces")
def test_a_disk_that_fills_up(project: Project, tiny_llama: Path) -> None:
    """The build folder is a small file system of its own; freed again, the build goes on from where it was."""
    project.model(name="m", source={"path": tiny_llama}, precisions=["fp16"])
    project.build.mkdir()
    script = """
        build=$1; shift
        mount -t tmpfs -o size=160m none "$build"
        "$@" checkpoint
        ! cat /dev/zero > "$build/filler" 2>/dev/null
        truncate -s -3M "$build/filler"
        code=0; "$@" export || code=$?; echo "full: exit code $code"
        rm "$build/filler"
        rm "$build"/logs/*
        "$@" export
        ls "$build/logs"
    """
    done = needs.in_a_namespace(script, project.build, *project.command(), cwd=ROOT, env=project.environment())
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "Traceback" not in said, said
    assert "full: exit code 1\n" in said
    assert [line for line in said.splitlines() if "export:m" in line and "No space left" in line], said
    assert said.splitlines()[-1] == "export.m.log", "the checkpoint is not made again"


def test_a_model_that_builds_but_does_not_load(project: Project, tiny_llama: Path) -> None:
    """Olive's HQQ pass renames the outputs, and exits 0."""
    (project.config / "recipes.toml").write_text('[hqq]\npasses = [{ type = "OnnxHqqQuantization" }]\n', "utf-8")
    project.model(name="m", source={"path": tiny_llama}, precisions=["hqq"])
    refused(project, "quantize:m-hqq", "does not load and generate", task="quantize")
    assert not (project.build / "m" / "hqq" / "onnx").exists()


def test_an_unwritable_cache(project: Project, tiny_llama: Path) -> None:
    blocked = project.home / "a file, not a folder"
    blocked.touch()
    project.models(
        {"name": "m", "source": {"path": tiny_llama}, "precisions": ["fp16"], "gates": {"fp16": {"kl": 9.0}}},
        extra=f"[foundry]\ncache = {json.dumps(str(blocked / 'models'))}\n",
    )
    refused(project, "deploy:m-fp16", "a file, not a folder", task="deploy")


def test_olive_ending_without_a_model(project: Project, tiny_llama: Path) -> None:
    workflow = {"passes": {"b": {"type": "ModelBuilder", "config": {"precision": "fp32", "extra_options": {
        "filename": "../out of place.onnx"}}}}}  # fmt: skip
    (project.config / "bad.json").write_text(json.dumps(workflow), encoding="utf-8")
    recipe = project.config / "recipes.toml"
    recipe.write_text('[mine]\nolive = "bad.json"\n', encoding="utf-8")
    project.model(name="m", source={"path": tiny_llama}, precisions=["mine"])
    refused(project, "checkpoint:m", "out of place.onnx", "trust = true", task="quantize")
    recipe.write_text('[mine]\nolive = "bad.json"\ntrust = true\n', encoding="utf-8")
    refused(project, "quantize:m-mine", task="quantize")

